//! The caller's terminal, handing every key on while a command in a replica uses it.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// How the terminal was, for as long as it is otherwise.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode until dropped. A panic restores it too, also where panics end the program at once.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    pub fn enter() -> io::Result<Self> {
        static RESTORED_BY_PANICS: Once = Once::new();
        RESTORED_BY_PANICS.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                print(panic);
            }));
        });
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let entered = Self(());
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(entered)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // A terminal that refuses has gone, and nobody is left to tell.
        tcsetattr(io::stdin(), OptionalActions::Flush, &before).ok();
    }
}
