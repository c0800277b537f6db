//! The public wire types of TSP: JSON documents, error codes, header names.
