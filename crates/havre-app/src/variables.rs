//! Secrets that a service has as variables: where they stand, and what they hold.

pub(crate) use havre_release::variable_key;

/// Longest `NAME=value` with its end that the kernel takes (`MAX_ARG_STRLEN`, with pages of 4 KiB).
const MAX_BYTES: usize = 128 * 1024;

/// Why a secret cannot be a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoVariable {
    #[error("it is no text (UTF-8)")]
    NoText,
    #[error("there is a byte 0 in it, with which a variable ends")]
    Zero,
    #[error("a variable has at most {MAX_BYTES} bytes, its name among them")]
    TooLong,
}

/// What a variable of this name holds: a secret's content, without the line end that a file has.
pub(crate) fn variable_value<'a>(name: &str, content: &'a [u8]) -> Result<&'a str, NoVariable> {
    let text = std::str::from_utf8(content).map_err(|_| NoVariable::NoText)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.contains('\0') {
        true => Err(NoVariable::Zero),
        false if name.len() + "=\0".len() + text.len() > MAX_BYTES => Err(NoVariable::TooLong),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_process_can_be_given_is_no_variable() {
        assert_eq!(variable_value("A", b"two\nlines\r\n"), Ok("two\nlines"));
        assert_eq!(variable_value("A", b"\xff"), Err(NoVariable::NoText));
        assert_eq!(variable_value("A", b"a\0b"), Err(NoVariable::Zero));
        let longest = vec![b'x'; MAX_BYTES - "AB=\0".len()];
        assert!(variable_value("AB", &longest).is_ok());
        assert_eq!(variable_value("ABC", &longest), Err(NoVariable::TooLong));
        // As the kernel sees it.
        let value = String::from_utf8(longest).expect("text");
        let run = |name: &str| {
            std::process::Command::new("true")
                .env(name, &value)
                .status()
        };
        assert!(run("AB").is_ok_and(|status| status.success()));
        assert!(run("ABC").is_err());
    }
}
