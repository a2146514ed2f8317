//! Lines for a person, made where memory may be refused: `format!` would end the process then.

use std::fmt;

/// A text that grows as it is written to. An error: no memory.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    /// What `write` writes, with room for a NUL behind it. `None`: no memory.
    pub(crate) fn line(write: impl FnOnce(&mut Text) -> fmt::Result) -> Option<String> {
        let mut text = Text::default();
        write(&mut text).ok()?;
        Some(text.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Text that need not be UTF-8; what is none is replaced.
    pub(crate) fn push_lossy(&mut self, bytes: &[u8]) -> fmt::Result {
        for chunk in bytes.utf8_chunks() {
            fmt::Write::write_str(self, chunk.valid())?;
            if !chunk.invalid().is_empty() {
                fmt::Write::write_char(self, char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.try_reserve(part.len() + 1).map_err(|_| fmt::Error)?;
        self.0.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Text;
    use crate::model::alloc::without_memory;
    use std::fmt::Write;

    #[test]
    fn what_is_no_utf8_is_replaced() {
        let mut text = Text::default();
        text.push_lossy(b"http://a\xffb/\xc3\xa4").unwrap();
        assert_eq!(text.as_str(), "http://a\u{fffd}b/\u{e4}");
    }

    #[test]
    fn there_is_room_for_the_end_that_c_needs() {
        let mut text = Text::default();
        for _ in 0..70 {
            write!(text, "1").unwrap();
            assert!(text.0.capacity() > text.0.len());
        }
        assert!(!text.is_empty());
        assert_eq!(text.as_str().len(), 70);
    }

    #[test]
    fn without_memory_there_is_none() {
        let line = || Text::line(|to| write!(to, "{}", 1));
        assert_eq!(without_memory(line), None);
        assert_eq!(line().as_deref(), Some("1"));
    }
}
