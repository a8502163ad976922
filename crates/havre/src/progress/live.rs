//! A few lines at the end of the terminal, redrawn in place; what is over scrolls up above them.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use havre_api::Event;
use unicode_width::UnicodeWidthStr;

use super::board::Board;
use crate::paint::Paint;

/// Size where the terminal does not say.
const FALLBACK_SIZE: (usize, usize) = (24, 80);

/// Most rows of the live region: more would push the history off the screen.
const MOST_ROWS: usize = 16;

/// The live view on standard error.
pub struct Live {
    board: Board,
    paint: Paint,
    began: Instant,
    /// The region as it stands on the terminal.
    shown: Vec<String>,
    note: Option<String>,
}

impl Live {
    pub fn new(paint: Paint, now: Instant) -> Self {
        let board = Board::new(paint);
        Self {
            board,
            paint,
            began: now,
            shown: Vec::new(),
            note: None,
        }
    }

    pub fn show(&mut self, event: &Event, now: Instant) {
        let kept = self.board.apply(event, now - self.began);
        // What changes only the region waits for the next tick: a build prints fast.
        if !kept.is_empty() {
            self.redraw(&kept, now);
        }
    }

    pub fn note(&mut self, text: &str, now: Instant) {
        self.note = Some(text.to_owned());
        self.draw(now);
    }

    pub fn draw(&mut self, now: Instant) {
        self.redraw(&[], now);
    }

    pub fn finish(&mut self, well: bool, now: Instant) {
        let kept = self.board.finish(well, now - self.began);
        self.note = None;
        self.write(&kept, Vec::new());
    }

    fn redraw(&mut self, kept: &[String], now: Instant) {
        let (rows, columns) = terminal_size();
        let rows = rows.saturating_sub(2).min(MOST_ROWS);
        // The last column stays free: some terminals wrap as soon as it is written.
        let elapsed: Duration = now - self.began;
        let mut region = self.board.live(rows, columns.saturating_sub(1), elapsed);
        if let Some(note) = &self.note {
            let note = crate::table::clipped(note, columns.saturating_sub(1));
            region.push(self.paint.warning(&note));
        }
        if kept.is_empty() && region == self.shown {
            return;
        }
        self.write(kept, region);
    }

    /// Replaces the region in one write, so that it does not flicker.
    fn write(&mut self, kept: &[String], region: Vec<String>) {
        let mut text = String::new();
        let drawn = rows_of(&self.shown, terminal_size().1);
        if drawn > 0 {
            text.push_str(&format!("\x1b[{drawn}A\r\x1b[J"));
        }
        for line in kept.iter().chain(&region) {
            text.push_str(line);
            text.push('\n');
        }
        // A terminal that cannot be written to has gone, and the operation goes on without it.
        io::stderr().lock().write_all(text.as_bytes()).ok();
        self.shown = region;
    }
}

/// Rows that lines take: more than one each where the terminal became narrower since.
fn rows_of(lines: &[String], columns: usize) -> usize {
    let rows = |line: &String| {
        crate::table::printable(line)
            .width()
            .div_ceil(columns)
            .max(1)
    };
    lines.iter().map(rows).sum()
}

/// Rows and columns.
fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            (usize::from(size.ws_row), usize::from(size.ws_col))
        }
        _ => FALLBACK_SIZE,
    }
}
