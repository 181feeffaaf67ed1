"""The experiments behind the tables of docs/results.md and docs/finetuning.md."""
