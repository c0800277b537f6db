//! A client for callers of TSP.
