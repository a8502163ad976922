//! The crate from outside: files in, a project or errors out.

mod bounds;
mod cases;
<<<<<<< HEAD
mod identify;
=======
mod mutations;
mod schema;
>>>>>>> 10ea843 (model: over a hundred cases, every key of the schema decided, hostile files bounded)
