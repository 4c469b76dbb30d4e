"""What stores in SQL databases share: the operations, over named statements that each database has in its own words."""
