//! Logins by tokens of a real issuer on loopback: what a workflow shows, and what forgers do.

mod issuer;
mod login;
