//! What a service runs, as words to look for.

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

    /// The word behind this one.
    pub fn after(&self, name: &str) -> Option<&str> {
        let mut words = self.words();
        words.by_ref().find(|word| *word == name)?;
        words.next()
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
