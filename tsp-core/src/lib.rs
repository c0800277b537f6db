//! The domain of TSP: pure values and transitions, no IO.
