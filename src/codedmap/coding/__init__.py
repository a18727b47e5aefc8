"""What codes are made of: operators, points, the smoothing spline, ordering."""
