//! The short pipe from fetcher to worker, with hints and feedback.
