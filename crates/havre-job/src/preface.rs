//! What each step begins with: a group that repeats what runs, and how.

use std::collections::HashMap;

use crate::{LineKind, Told};

/// Knows of each step of a leg whether its first group is over, for who shows its title instead.
#[derive(Debug, Default)]
pub struct Prefaces(HashMap<u32, Preface>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preface {
    Expected,
    Inside,
    Over,
}

impl Prefaces {
    /// Whether this is part of one. To be asked about all that is told of a leg, in its order.
    pub fn has(&mut self, told: &Told) -> bool {
        match told {
            Told::StepBegan { step, .. } => {
                self.0.insert(*step, Preface::Expected);
                false
            }
            Told::StepEnded { step, .. } => {
                self.0.remove(step);
                false
            }
            Told::Line {
                step: Some(step),
                kind,
                ..
            } => {
                let Some(preface) = self.0.get_mut(step) else {
                    return false;
                };
                let (is, next) = match (*preface, kind) {
                    (Preface::Expected, LineKind::Group) => (true, Preface::Inside),
                    (Preface::Inside, LineKind::EndGroup) => (true, Preface::Over),
                    (Preface::Inside, _) => (true, Preface::Inside),
                    (Preface::Expected | Preface::Over, _) => (false, Preface::Over),
                };
                *preface = next;
                is
            }
            Told::Line { step: None, .. }
            | Told::Began { .. }
            | Told::Annotation { .. }
            | Told::Summary { .. }
            | Told::Ended { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: LineKind, text: &str) -> Told {
        Told::Line {
            step: Some(0),
            kind,
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_the_first_group_of_a_step_is_one() {
        let began = Told::StepBegan {
            step: 0,
            name: "x".to_owned(),
            at_ms: 0,
        };
        let all = [
            (began.clone(), false),
            (line(LineKind::Group, "Run x"), true),
            (line(LineKind::Plain, "shell: sh"), true),
            (line(LineKind::EndGroup, ""), true),
            (line(LineKind::Group, "own"), false),
            (line(LineKind::Plain, "said"), false),
            (began, false),
            (line(LineKind::Plain, "said"), false),
            (line(LineKind::Group, "own"), false),
        ];
        let mut prefaces = Prefaces::default();
        for (at, (told, expected)) in all.iter().enumerate() {
            assert_eq!(prefaces.has(told), *expected, "{at}");
        }
    }
}
