"""The commands of `selfie-model`, one a file that defines `command`. Only they join the model with the loaders.

Beside them: `configuration` (options → `Config`), `loading` (options → `LoaderOptions`), `running` (what trainings
share).
"""
