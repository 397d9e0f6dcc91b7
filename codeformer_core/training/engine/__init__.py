"""What all stages share: processes, steps, checkpoints, averages, schedules, what is shown."""
