//! An NSQ client that knows nothing of TSP.
