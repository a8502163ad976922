//! `--chmod`: octal, or symbolic as `chmod` takes it (`u=rwX,go=rX`, `g=u`).

/// New permission bits, dependent on the old ones in the symbolic form.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) enum Chmod {
    /// These.
    Octal(u32),
    /// Changes, in order.
    Symbolic(Vec<Change>),
}

/// `[ugoa]*[-+=]([rwxXst]*|[ugo])`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Change {
    /// Bits that `who` reaches.
    who: u32,
    /// `+`, `-` or `=`.
    operator: char,
    /// Letters.
    what: String,
}

impl Chmod {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither octal (0755) nor symbolic (u=rwX,go=rX)");
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
            return if mode <= 0o7777 {
                Ok(Self::Octal(mode))
            } else {
                Err(wrong())
            };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let at = clause.find(['+', '-', '=']).ok_or_else(wrong)?;
            let mut who = 0;
            for letter in clause[..at].chars() {
                who |= match letter {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(wrong()),
                };
            }
            let operator = char::from(clause.as_bytes()[at]);
            let what = &clause[at + 1..];
            let copies = matches!(what, "u" | "g" | "o");
            if !copies && !what.chars().all(|c| "rwxXst".contains(c)) {
                return Err(wrong());
            }
            let who = if at == 0 { 0o7777 } else { who };
            changes.push(Change {
                who,
                operator,
                what: what.to_owned(),
            });
        }
        Ok(Self::Symbolic(changes))
    }

    /// The bits for a file that has `mode` now.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => changes
                .iter()
                .fold(mode & 0o7777, |mode, change| change.apply(mode, is_dir)),
        }
    }
}

impl Change {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        for letter in self.what.chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                // What somebody else may, for everybody meant.
                'u' => (mode >> 6 & 7) * 0o111,
                'g' => (mode >> 3 & 7) * 0o111,
                'o' => (mode & 7) * 0o111,
                _ => 0,
            };
        }
        let bits = bits & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // `=` leaves the set-id bits of a folder, as chmod does.
            _ if is_dir => (mode & !(self.who & 0o777)) | bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Chmod;

    #[test]
    fn modes_are_computed_as_chmod_does() {
        for (text, old, is_dir, new) in [
            ("0755", 0o600, false, 0o755),
            ("755", 0o4600, false, 0o755),
            ("4755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g+s,o+t", 0o755, true, 0o3755),
            ("u+s", 0o755, false, 0o4755),
            ("o=", 0o777, false, 0o770),
            ("g=u", 0o640, false, 0o660),
            ("go=u", 0o755, true, 0o777),
            ("u=g,o-u", 0o751, false, 0o550),
            ("o+g", 0o640, false, 0o644),
        ] {
            let chmod = Chmod::parse(text).expect(text);
            assert_eq!(chmod.apply(old, is_dir), new, "{text} on {old:o}");
        }
        for text in ["", "8", "77777", "u", "z+x", "u+q", "g=ur", "g=ug", "$X"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
