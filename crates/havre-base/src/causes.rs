//! Errors and what caused them.

use std::error::Error;
use std::iter::successors;

/// What caused an error, outermost first; the error itself is not among them.
pub fn causes<'e>(error: &'e (dyn Error + 'e)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    successors(error.source(), |&cause| cause.source())
}

/// An error and what caused it, on one line.
pub fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    for cause in causes(error) {
        line.push_str(": ");
        line.push_str(&cause.to_string());
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn an_error_is_said_with_all_that_caused_it() {
        let inner = Layer("cannot open b", Some(Box::new(Layer("denied", None))));
        let error = Layer("cannot read a", Some(Box::new(inner)));
        assert_eq!(one_line(&error), "cannot read a: cannot open b: denied");
        let causes: Vec<String> = causes(&error).map(ToString::to_string).collect();
        assert_eq!(causes, ["cannot open b", "denied"]);
        assert_eq!(one_line(&Layer("alone", None)), "alone");
    }
}
