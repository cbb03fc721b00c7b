"""How a job runs: claimed, split into shards, predicted by worker processes, written."""
