"""The commands of `selfie-model`, one a file that defines `command`. Only they join the model with the loaders.

Beside them: `configuration` (options → `Config`), `data` (dataset → loaders), `running` (what trainings share).
"""
