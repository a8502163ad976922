//! Commands in a step's output: `::name key=value,…::data`, and the older `##[name key=value;…]data`.

/// One command, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// As it is written.
    pub name: String,
    /// In the order of the line.
    pub properties: Vec<(String, String)>,
    /// What it is about.
    pub data: String,
}

/// Commands that do something; others are output like any other.
pub(crate) const KNOWN: &[&str] = &[
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "stop-commands",
    "warning",
];

impl Command {
    /// A property, by its name without regard to case.
    pub fn property(&self, name: &str) -> Option<&str> {
        let mut named = self.properties.iter().rev();
        let found = named.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it is this one.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The command that a line is, if it is one of [`KNOWN`] or `also`.
pub(crate) fn parse(line: &str, also: Option<&str>) -> Option<Command> {
    let known = |name: &str| {
        let mut names = KNOWN.iter().copied().chain(also);
        names.any(|known| known.eq_ignore_ascii_case(name))
    };
    current(line, known).or_else(|| legacy(line, known))
}

fn current(line: &str, known: impl Fn(&str) -> bool) -> Option<Command> {
    let (head, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
    let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
    known(name).then(|| Command {
        name: name.to_owned(),
        properties: pairs(properties.trim(), ',', &PROPERTY),
        data: decoded(data, &DATA),
    })
}

fn legacy(line: &str, known: impl Fn(&str) -> bool) -> Option<Command> {
    let (_, rest) = line.split_once("##[")?;
    let (head, data) = rest.split_once(']')?;
    let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
    known(name).then(|| Command {
        name: name.to_owned(),
        properties: pairs(properties, ';', &LEGACY),
        data: decoded(data, &LEGACY),
    })
}

fn pairs(text: &str, between: char, escapes: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = text.split(between).filter_map(|pair| pair.split_once('='));
    let given = pairs.filter(|(name, value)| !name.is_empty() && !value.is_empty());
    given
        .map(|(name, value)| (name.to_owned(), decoded(value, escapes)))
        .collect()
}

/// `%` stands last in each: what it makes is not decoded once more.
const DATA: [(&str, &str); 3] = [("%0D", "\r"), ("%0A", "\n"), ("%25", "%")];
const PROPERTY: [(&str, &str); 5] = [
    ("%0D", "\r"),
    ("%0A", "\n"),
    ("%3A", ":"),
    ("%2C", ","),
    ("%25", "%"),
];
const LEGACY: [(&str, &str); 5] = [
    ("%3B", ";"),
    ("%0D", "\r"),
    ("%0A", "\n"),
    ("%5D", "]"),
    ("%25", "%"),
];

fn decoded(text: &str, escapes: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (escaped, plain) in escapes.iter().filter(|(_, plain)| *plain != "%") {
        if text.contains(escaped) {
            text = text.replace(escaped, plain);
        }
    }
    text.replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> String {
        match parse(line, Some("tok-1")) {
            None => "none".to_owned(),
            Some(command) => format!(
                "{} {:?} {:?}",
                command.name, command.properties, command.data
            ),
        }
    }

    #[test]
    fn commands_are_read_as_github_reads_them() {
        for (line, expected) in [
            (
                "::set-output name=a::b",
                r#"set-output [("name", "a")] "b""#,
            ),
            ("  \t::debug::x", r#"debug [] "x""#),
            ("x ::debug::y", "none"),
            ("::debug:x", "none"),
            ("::nope::x", "none"),
            ("::Set-Output NAME=a::", r#"Set-Output [("NAME", "a")] """#),
            ("::tok-1::", r#"tok-1 [] """#),
            (
                "::error file=a%2Cb%3Ac,line=1,col=::m",
                r#"error [("file", "a,b:c"), ("line", "1")] "m""#,
            ),
            ("::error file=a;b::m", r#"error [("file", "a;b")] "m""#),
            ("::debug::%250A%0A%25", r#"debug [] "%0A\n%""#),
            ("::debug::a%3Ab", r#"debug [] "a%3Ab""#),
            ("::debug::a::b", r#"debug [] "a::b""#),
            ("pre ##[debug]x%5Dy", r#"debug [] "x]y""#),
            (
                "##[error file=a;line=2]m",
                r#"error [("file", "a"), ("line", "2")] "m""#,
            ),
            ("##[error", "none"),
            (
                "::set-output name=a=b::c",
                r#"set-output [("name", "a=b")] "c""#,
            ),
        ] {
            assert_eq!(check(line), expected, "{line}");
        }
    }
}
