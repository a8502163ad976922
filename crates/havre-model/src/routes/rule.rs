//! Rules of Traefik's routers: ``Host(`a`) && (PathPrefix(`/x`) || PathPrefix(`/y`))``.

/// Longest rule read, in bytes.
const MAX_BYTES: usize = 4096;
/// Deepest parentheses.
const MAX_DEPTH: usize = 16;
/// Most combinations of hosts and paths.
const MAX_MATCHES: usize = 64;

/// Requests that a rule takes: those for this host below this path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Match {
    /// `None`: any.
    pub host: Option<String>,
    /// `None`: any.
    pub path: Option<String>,
}

/// Why a rule cannot be read: the part that routes do not have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotRead(pub String);

/// The matches of a rule, each by itself.
pub(super) fn parse(rule: &str) -> Result<Vec<Match>, NotRead> {
    if rule.len() > MAX_BYTES {
        return Err(NotRead("a rule of that length".to_owned()));
    }
    let mut parser = Parser { rest: rule };
    let matches = parser.either(0)?;
    match parser.skip() {
        "" => Ok(matches),
        rest => Err(NotRead(rest.to_owned())),
    }
}

struct Parser<'r> {
    rest: &'r str,
}

impl<'r> Parser<'r> {
    fn skip(&mut self) -> &'r str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, token: &str) -> bool {
        match self.skip().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn either(&mut self, depth: usize) -> Result<Vec<Match>, NotRead> {
        let mut all = self.both(depth)?;
        while self.take("||") {
            all.extend(self.both(depth)?);
            bounded(&all)?;
        }
        Ok(all)
    }

    fn both(&mut self, depth: usize) -> Result<Vec<Match>, NotRead> {
        let mut all = self.one(depth)?;
        while self.take("&&") {
            let others = self.one(depth)?;
            let pairs = all
                .iter()
                .flat_map(|a| others.iter().map(move |b| and(a, b)));
            all = pairs.flatten().collect();
            bounded(&all)?;
        }
        Ok(all)
    }

    fn one(&mut self, depth: usize) -> Result<Vec<Match>, NotRead> {
        if depth > MAX_DEPTH {
            return Err(NotRead("parentheses of that depth".to_owned()));
        }
        if self.take("(") {
            let inner = self.either(depth + 1)?;
            return match self.take(")") {
                true => Ok(inner),
                false => Err(NotRead(self.rest.to_owned())),
            };
        }
        let whole = self.skip();
        let length = whole.find(|c: char| !c.is_ascii_alphanumeric());
        let (name, rest) = whole.split_at(length.unwrap_or(whole.len()));
        self.rest = rest;
        let arguments = self.arguments(whole)?;
        let matcher = name.to_ascii_lowercase();
        let matches = arguments
            .into_iter()
            .map(|argument| match matcher.as_str() {
                "host" => Ok(Match {
                    host: Some(argument.to_ascii_lowercase()),
                    path: None,
                }),
                "path" | "pathprefix" if argument.starts_with('/') => Ok(Match {
                    host: None,
                    path: Some(prefix(argument)),
                }),
                _ => Err(NotRead(format!("{name}(…)"))),
            });
        matches.collect()
    }

    /// What stands in the parentheses, in quotes of any kind.
    fn arguments(&mut self, whole: &'r str) -> Result<Vec<&'r str>, NotRead> {
        let wrong = || NotRead(whole.to_owned());
        if !self.take("(") {
            return Err(wrong());
        }
        let mut arguments = Vec::new();
        loop {
            let quote = self.skip().chars().next().ok_or_else(wrong)?;
            if !matches!(quote, '`' | '"' | '\'') {
                return Err(wrong());
            }
            let (argument, rest) = self.rest[1..].split_once(quote).ok_or_else(wrong)?;
            self.rest = rest;
            arguments.push(argument);
            if self.take(")") {
                return Ok(arguments);
            }
            if !self.take(",") {
                return Err(wrong());
            }
        }
    }
}

/// `/api/` means `/api`.
fn prefix(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// `None`: no request is both.
fn and(a: &Match, b: &Match) -> Option<Match> {
    let host = match (&a.host, &b.host) {
        (Some(a), Some(b)) if a != b => return None,
        (a, b) => a.clone().or(b.clone()),
    };
    let path = match (&a.path, &b.path) {
        (Some(a), Some(b)) if a.starts_with(b.as_str()) => Some(a.clone()),
        (Some(a), Some(b)) if b.starts_with(a.as_str()) => Some(b.clone()),
        (Some(_), Some(_)) => return None,
        (a, b) => a.clone().or(b.clone()),
    };
    Some(Match { host, path })
}

fn bounded(all: &[Match]) -> Result<(), NotRead> {
    match all.len() > MAX_MATCHES {
        true => Err(NotRead(format!("more than {MAX_MATCHES} hosts and paths"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, expected: &str) {
        let shown = match parse(rule) {
            Err(NotRead(part)) => format!("not read: {part}"),
            Ok(matches) => {
                let show = |m: &Match| {
                    let part = |part: &Option<String>| part.clone().unwrap_or_default();
                    format!("{}{}", part(&m.host), part(&m.path))
                };
                matches.iter().map(show).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(shown, expected, "{rule}");
    }

    #[test]
    fn hosts_and_paths() {
        check("Host(`a.org`)", "a.org");
        check("Host(`a.org`, `b.org`)", "a.org b.org");
        check("Host(\"A.org\") || Host('b.org')", "a.org b.org");
        check("Host(`a.org`) && PathPrefix(`/api/`)", "a.org/api");
        check("PathPrefix(`/api`)", "/api");
        check("Path(`/`)", "/");
        check(
            "Host(`a.org`) && (PathPrefix(`/x`) || Path(`/y`))",
            "a.org/x a.org/y",
        );
        check(
            "(Host(`a.org`) || Host(`b.org`)) && PathPrefix(`/x`)",
            "a.org/x b.org/x",
        );
        check(
            "Host(`a.org`) && PathPrefix(`/`) && PathPrefix(`/x`)",
            "a.org/x",
        );
        check("host( `a.org` )&&path(`/`)", "a.org/");
        check("Host(`a.org`) && Host(`b.org`)", "");
    }

    #[test]
    fn what_routes_do_not_have() {
        check("HostRegexp(`.+`)", "not read: HostRegexp(…)");
        check("Host(`a`) && Headers(`x`, `y`)", "not read: Headers(…)");
        check("!Host(`a`)", "not read: !Host(`a`)");
        check("Host(a)", "not read: Host(a)");
        check("Host(`a`", "not read: Host(`a`");
        check("Host(`a`) x", "not read: x");
        check("", "not read: ");
        check("PathPrefix(`{x:.*}`)", "not read: PathPrefix(…)");
        let deep = "(".repeat(40) + "Host(`a`)" + &")".repeat(40);
        check(&deep, "not read: parentheses of that depth");
        let one = "(Host(`a`,`b`,`c`,`d`) || Path(`/1`,`/2`,`/3`,`/4`))";
        check(
            &format!("{one} && {one} && {one}"),
            "not read: more than 64 hosts and paths",
        );
    }
}
