"""Restoring the faces of videos: read, detect, track, smooth, restore, average, paste, write; see `restore_video`."""
