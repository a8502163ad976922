//! Actions that Havre brings along: what they take, and what they do inside a box.
