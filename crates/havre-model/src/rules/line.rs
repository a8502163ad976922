//! What a service runs, as words to look for.

use std::collections::BTreeSet;

/// Options whose value is a port to listen on, or an address with one.
const PORT_OPTIONS: [&str; 9] = [
    "--bind",
    "--http-port",
    "--listen",
    "--port",
    "-b",
    "-p",
    "PORT",
    "http.server",
    "runserver",
];

/// A command line in simple commands: what stands between `&&`, `||`, `;` and `|`.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    commands: Vec<Vec<String>>,
}

impl Line {
    pub fn new(text: &str) -> Self {
        let commands = text
            .split(['\n', ';', '|', '&'])
            .map(|command| {
                let words = command
                    .split_whitespace()
                    .map(|word| word.trim_matches(['"', '\'', '(', ')', '`']).to_owned());
                words.filter(|word| !word.is_empty()).collect()
            })
            .filter(|words: &Vec<String>| !words.is_empty())
            .collect();
        Self { commands }
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// These words follow one another, options between them left out. The first may be a path.
    pub fn has(&self, pattern: &str) -> bool {
        let pattern: Vec<&str> = pattern.split(' ').collect();
        self.commands.iter().any(|words| {
            let words: Vec<&str> = words
                .iter()
                .map(String::as_str)
                .filter(|word| !word.starts_with('-') || pattern.contains(word))
                .collect();
            words.windows(pattern.len()).any(|window| {
                let (first, rest) = (program(window[0]), &window[1..]);
                first == pattern[0] && rest == &pattern[1..]
            })
        })
    }

    /// One command has the program and, somewhere behind it, the word.
    pub fn runs(&self, name: &str, word: &str) -> bool {
        self.commands.iter().any(|words| {
            let mut rest = words.iter();
            rest.any(|other| program(other) == name) && rest.any(|other| other == word)
        })
    }

    /// What each command starts, behind what only prepares it.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        const BEFORE: [&str; 8] = [
            "bash",
            "dumb-init",
            "env",
            "exec",
            "sh",
            "tini",
            "npx",
            "time",
        ];
        self.commands.iter().filter_map(|words| {
            let names = words.iter().map(|word| program(word));
            names.into_iter().find(|name| {
                !(name.starts_with('-') || name.contains('=') || BEFORE.contains(name))
            })
        })
    }

    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().flatten().map(String::as_str)
    }

    /// Ports that the commands listen on, as far as their words say.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.commands
            .iter()
            .flat_map(|words| {
                let named = words.windows(2).filter_map(|pair| {
                    let is_option = PORT_OPTIONS.contains(&pair[0].as_str());
                    is_option.then(|| port(&pair[1])).flatten()
                });
                let joined = words.iter().filter_map(|word| {
                    let value = word
                        .split_once('=')
                        .map_or(word.as_str(), |(_, value)| value);
                    let is_option = PORT_OPTIONS.iter().any(|option| {
                        word.strip_prefix(option)
                            .is_some_and(|rest| rest.starts_with('='))
                    });
                    let is_address = value.contains(':') && !value.contains('/');
                    (is_option || is_address).then(|| port(value)).flatten()
                });
                named.chain(joined)
            })
            .collect()
    }

    /// The word behind this one.
    pub fn after(&self, name: &str) -> Option<&str> {
        let mut words = self.words();
        words.by_ref().find(|word| *word == name)?;
        words.next()
    }
}

/// `8000`, or an address of this machine with a port.
fn port(value: &str) -> Option<u16> {
    match value.rsplit_once(':') {
        None => value.parse().ok(),
        Some((host, port)) => {
            let own = ["", "*", "0.0.0.0", "127.0.0.1", "::", "[::]", "localhost"];
            own.contains(&host).then(|| port.parse().ok()).flatten()
        }
    }
}

/// The last part of a path.
pub(super) fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_what_a_command_listens_on() {
        for (line, ports) in [
            ("gunicorn --bind 0.0.0.0:8000 app", &[8000][..]),
            ("gunicorn -b :8000 -w 4 app", &[8000]),
            ("uvicorn a:b --host 0.0.0.0 --port=8080", &[8080]),
            ("python -m http.server 3000", &[3000]),
            ("env PORT=3001 next start", &[3001]),
            ("php -S 0.0.0.0:9000", &[9000]),
            ("celery -A app worker --broker redis://redis:6379", &[]),
            ("./serve --database db:5432", &[]),
            ("cp -p file", &[]),
        ] {
            let found: Vec<u16> = Line::new(line).ports().into_iter().collect();
            assert_eq!(found, ports, "{line}");
        }
    }

    #[test]
    fn words_are_found_whole_and_in_one_command() {
        let line = Line::new(
            "sh -c 'npm run build && exec /usr/bin/air -c x; python -m flask --app a run'",
        );
        assert!(line.has("npm run build") && !line.has("npm run dev"));
        assert!(line.runs("flask", "run") && !line.runs("npm", "x"));
        let programs: Vec<_> = line.programs().collect();
        assert_eq!(programs, ["npm", "air", "python"]);
        assert!(Line::new("uvicorn a:b --reload").has("--reload"));
        assert!(!Line::new("x --reload-engine").has("--reload"));
        assert!(Line::new("npm --silent run dev").has("npm run dev"));
        assert_eq!(
            Line::new("redis-server --dir /d").after("--dir"),
            Some("/d")
        );
    }
}
