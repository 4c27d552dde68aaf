"""What serves those who teach and make the course: no lesson needs it. Each row of the picture stands on the next."""
