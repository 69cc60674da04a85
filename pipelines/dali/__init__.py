"""Nvidia DALI: its graphs, how they are fed, and what its errors say."""
