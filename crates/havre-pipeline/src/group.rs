//! What may not run at once: a decision over all that is in a group.

/// Most that wait with `queue: max`; GitHub's bound.
const MAX_WAITING: usize = 100;

/// A run, or a leg of one, that is in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<I> {
    /// Which.
    pub id: I,
    /// How far it is.
    pub stage: Stage,
    /// Whether it ends the one that runs.
    pub cancel_in_progress: bool,
    /// Whether those before it go on waiting.
    pub queue_all: bool,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits to be let in.
    Waiting,
    /// It was let in.
    Active,
    /// It was let in, and is being cancelled.
    Ending,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It may start.
    Admit,
    /// It runs, and is to end for a newer one.
    Cancel,
    /// It waits, and gives way to a newer one; or too many wait before it.
    Displace,
}

/// What is to be done about the members of one group, in the order in which they came. Doing it, and asking again, comes
/// to an end; who is not named goes on as it is.
pub fn decide<I: Clone>(members: &[Member<I>]) -> Vec<(I, Ruling)> {
    let is_waiting = |member: &&Member<I>| member.stage == Stage::Waiting;
    let mut rulings = Vec::new();
    let mut waiting = Vec::new();
    for (at, member) in members.iter().enumerate().filter(|(_, m)| is_waiting(m)) {
        let mut later = members[at + 1..].iter().filter(is_waiting);
        let gives_way = later.any(|later| !later.queue_all);
        match gives_way || waiting.len() == MAX_WAITING {
            true => rulings.push((member.id.clone(), Ruling::Displace)),
            false => waiting.push(member),
        }
    }
    let inside = members.iter().filter(|member| !is_waiting(member));
    let inside: Vec<&Member<I>> = inside.collect();
    match waiting.first() {
        Some(first) if inside.is_empty() => rulings.push((first.id.clone(), Ruling::Admit)),
        _ if waiting.iter().any(|member| member.cancel_in_progress) => {
            let active = inside.iter().filter(|member| member.stage == Stage::Active);
            rulings.extend(active.map(|member| (member.id.clone(), Ruling::Cancel)));
        }
        _ => {}
    }
    rulings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members by letters: `a` active, `e` ending, `w` waits, `c` waits and cancels, `q` waits with `queue: max`.
    fn check(members: &str) -> Vec<(usize, Ruling)> {
        let members = members.chars().enumerate().map(|(id, kind)| Member {
            id,
            stage: match kind {
                'a' => Stage::Active,
                'e' => Stage::Ending,
                _ => Stage::Waiting,
            },
            cancel_in_progress: kind == 'c',
            queue_all: kind == 'q',
        });
        decide(&members.collect::<Vec<_>>())
    }

    #[test]
    fn one_runs_and_the_newest_waits() {
        assert_eq!(check("w"), [(0, Ruling::Admit)]);
        assert_eq!(check("aw"), []);
        assert_eq!(check("aww"), [(1, Ruling::Displace)]);
        assert_eq!(check("ew"), []);
    }

    #[test]
    fn a_new_one_may_end_the_one_that_runs() {
        assert_eq!(check("ac"), [(0, Ruling::Cancel)]);
        assert_eq!(check("ec"), []);
        assert_eq!(check("awc"), [(1, Ruling::Displace), (0, Ruling::Cancel)]);
    }

    #[test]
    fn with_queue_max_a_hundred_wait_in_order() {
        assert_eq!(check("aqqq"), []);
        assert_eq!(check("qq"), [(0, Ruling::Admit)]);
        assert_eq!(
            check(&format!("a{}", "q".repeat(101))),
            [(101, Ruling::Displace)]
        );
    }
}
