//! Runs the steps of one leg, inside its box.
