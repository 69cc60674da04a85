"""How a number is made: records, statistics, interleaved rounds, processes that sleep while others are measured."""
