//! Repositories, served by the machine's git.
