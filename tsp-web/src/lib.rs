//! The HTTP API of TSP.
