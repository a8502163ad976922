//! Tells what happens, one JSON document per line, masked.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use havre_base::clipped;
use havre_job::{Annotation, LineKind, MAX_PLAIN, MAX_TEXT, MAX_TOLD, Told, cost};

use crate::masks::Masks;

/// Most annotations of a job.
const MAX_ANNOTATIONS: usize = 1000;
/// What is kept of [`MAX_TOLD`] to say that the rest is dropped.
const RESERVE: u64 = 1 << 10;

/// Tells; shared by all threads.
pub(crate) struct Teller {
    out: Mutex<Out>,
    /// What is masked in every text.
    pub masks: Masks,
    debug: bool,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// Nobody listens any more.
    broken: bool,
    /// Of plain lines, and of all that counts.
    plain: u64,
    all: u64,
    annotations: usize,
    dropped: bool,
}

impl Teller {
    /// Tells `to`; lines for debugging only if `debug`.
    pub fn new(to: Box<dyn Write + Send>, debug: bool) -> Self {
        Self {
            out: Mutex::new(Out {
                to,
                broken: false,
                plain: 0,
                all: 0,
                annotations: 0,
                dropped: false,
            }),
            masks: Masks::default(),
            debug,
        }
    }

    /// Tells what is no output. Texts are masked and cut here.
    pub fn tell(&self, mut told: Told) {
        for text in texts(&mut told) {
            let masked = self.masks.masked(std::mem::take(text));
            *text = match masked.len() > MAX_TEXT {
                true => clipped(&masked, MAX_TEXT).to_owned(),
                false => masked,
            };
        }
        if let Told::Summary { text, .. } = &mut told {
            *text = self.masks.masked(std::mem::take(text));
        }
        self.out().write(&told);
    }

    /// A line of output; in parts, if it is long.
    pub fn line(&self, step: Option<u32>, kind: LineKind, text: String) {
        if kind == LineKind::Debug && !self.debug {
            return;
        }
        // What is not told need not be masked.
        let text = match kind == LineKind::Plain && self.out().is_full(kind) {
            true => String::new(),
            false => self.masks.masked(text),
        };
        self.masked_line(step, kind, &text);
    }

    /// A line, or part of one, that is masked already.
    pub fn masked_line(&self, step: Option<u32>, kind: LineKind, text: &str) {
        let mut out = self.out();
        let mut rest = text;
        loop {
            let part = clipped(rest, MAX_TEXT);
            rest = &rest[part.len()..];
            let text = part.to_owned();
            let is_told = out.write(&Told::Line { step, kind, text });
            if !is_told || rest.is_empty() {
                return;
            }
        }
    }

    /// Something to be seen beside the log.
    pub fn annotation(&self, step: Option<u32>, annotation: Annotation) {
        let mut out = self.out();
        out.annotations = out.annotations.saturating_add(1);
        if out.annotations > MAX_ANNOTATIONS {
            if out.annotations == MAX_ANNOTATIONS + 1 {
                let text = format!(
                    "more than {MAX_ANNOTATIONS} annotations: the rest is in the output alone"
                );
                let kind = LineKind::Warning;
                out.write(&Told::Line { step, kind, text });
            }
            return;
        }
        drop(out);
        self.tell(Told::Annotation { step, annotation });
    }

    /// Several lines that people should read, each with its kind.
    pub fn lines(&self, step: Option<u32>, kind: LineKind, text: &str) {
        for line in text.lines() {
            self.line(step, kind, line.to_owned());
        }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    /// Whether no more lines of a kind are told.
    fn is_full(&self, kind: LineKind) -> bool {
        let is_plain = kind == LineKind::Plain;
        self.all >= MAX_TOLD - RESERVE || is_plain && self.plain >= MAX_PLAIN
    }

    /// Whether there is room for it, which is taken; what says how the job goes always has some.
    fn takes(&mut self, told: &Told, bytes: usize) -> bool {
        let is_plain = match told {
            Told::Began { .. }
            | Told::StepBegan { .. }
            | Told::StepEnded { .. }
            | Told::Ended { .. } => return true,
            Told::Line { kind, .. } => *kind == LineKind::Plain,
            Told::Annotation { .. } | Told::Summary { .. } => false,
        };
        let cost = cost(bytes);
        if is_plain {
            self.plain = self.plain.saturating_add(cost);
        }
        self.all = self.all.saturating_add(cost);
        self.all < MAX_TOLD - RESERVE && (!is_plain || self.plain < MAX_PLAIN)
    }

    fn tell_dropped(&mut self) {
        if std::mem::replace(&mut self.dropped, true) {
            return;
        }
        let most = MAX_PLAIN >> 20;
        let text =
            format!("the job printed more than {most} MiB: the rest of its output is left out");
        let kind = LineKind::Warning;
        self.put(&json(&Told::Line {
            step: None,
            kind,
            text,
        }));
    }

    /// Whether it was told.
    fn write(&mut self, told: &Told) -> bool {
        if self.broken {
            return false;
        }
        let line = json(told);
        let takes = self.takes(told, line.len());
        match takes {
            true => self.put(&line),
            false => self.tell_dropped(),
        }
        takes
    }

    fn put(&mut self, line: &[u8]) {
        let written = self.to.write_all(line).and_then(|()| self.to.flush());
        self.broken = written.is_err();
    }
}

fn json(told: &Told) -> Vec<u8> {
    let mut line = serde_json::to_vec(told).expect("what is told is JSON");
    line.push(b'\n');
    line
}

/// All texts of it that come from outside, but a summary's.
fn texts(told: &mut Told) -> Vec<&mut String> {
    match told {
        Told::Began { steps, .. } => steps.iter_mut().collect(),
        Told::StepBegan { name, .. } => vec![name],
        Told::Line { text, .. } => vec![text],
        Told::Annotation { annotation, .. } => {
            let optional = [&mut annotation.title, &mut annotation.file];
            let mut texts: Vec<&mut String> = optional.into_iter().flatten().collect();
            texts.push(&mut annotation.message);
            texts
        }
        Told::StepEnded { why, .. } => why.iter_mut().collect(),
        Told::Summary { .. } => Vec::new(),
        Told::Ended {
            environment_url,
            images,
            ..
        } => {
            let images = images.iter_mut().map(|(name, _)| name);
            environment_url.iter_mut().chain(images).collect()
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
