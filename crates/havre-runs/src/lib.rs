//! Runs of workflows: kept, driven, told.
