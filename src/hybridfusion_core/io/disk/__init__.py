"""What any file on a disk needs: permission, locks, and writes that stand whole or not at all."""
