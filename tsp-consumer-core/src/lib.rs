//! The worker framework: TaskHandler and the batched pipeline.
