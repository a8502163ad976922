//! The box of a leg: a container, its network and its services.
