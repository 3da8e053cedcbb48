"""What runs inside training Jobs: fetch data, fit and check a model, publish its bundle."""
