//! The list that gives blocks their order: XML of one form.

use data_encoding::{BASE64, HEXLOWER};

/// Most bytes of a block's id; Azure's.
const MAX_ID: usize = 64;

/// The file that a block is kept in, by its id in base64.
pub(super) fn file(id: &str) -> Option<String> {
    // A client that does not escape a plus sends a space.
    let id = BASE64.decode(id.trim().replace(' ', "+").as_bytes()).ok()?;
    let fits = (1..=MAX_ID).contains(&id.len());
    fits.then(|| format!("b{}", HEXLOWER.encode(&id)))
}

/// The files that a list names, in its order; `None`: it is no such list, or a part of one.
pub(super) fn parse(text: &str) -> Option<Vec<String>> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = match text.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>")?.1.trim_start(),
        None => text,
    };
    if text == "<BlockList/>" || text == "<BlockList />" {
        return Some(Vec::new());
    }
    let mut rest = text
        .strip_prefix("<BlockList>")?
        .strip_suffix("</BlockList>")?
        .trim();
    let mut files = Vec::new();
    while !rest.is_empty() {
        let (tag, after) = rest.strip_prefix('<')?.split_once('>')?;
        // Each block is the latest of its id here.
        if !["Latest", "Uncommitted", "Committed"].contains(&tag) {
            return None;
        }
        let (id, after) = after.split_once("</")?;
        files.push(file(id)?);
        rest = after.strip_prefix(tag)?.strip_prefix('>')?.trim_start();
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<BlockList>\n\
        <Latest>QUFB</Latest><Uncommitted>QkJC</Uncommitted>\n<Latest>QUFB</Latest></BlockList>";

    #[test]
    fn the_order_is_the_lists() {
        let files = parse(LIST).unwrap();
        assert_eq!(files, ["b414141", "b424242", "b414141"]);
        assert_eq!(parse("<BlockList></BlockList>"), Some(vec![]));
        assert_eq!(parse("<?xml version=\"1.0\"?><BlockList/>"), Some(vec![]));
    }

    #[test]
    fn a_list_that_was_cut_off_is_none() {
        for end in 0..LIST.len() {
            assert_eq!(parse(&LIST[..end]), None, "{end}");
        }
        for bad in [
            "<BlockList><Other>QUFB</Other></BlockList>",
            "<BlockList><Latest>QUFB</Uncommitted></BlockList>",
            "<BlockList><Latest>../x</Latest></BlockList>",
            "<BlockList><Latest></Latest></BlockList>",
            "<BlockList>QUFB</BlockList>",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_are_base64_of_at_most_64_bytes() {
        assert_eq!(file("++++").as_deref(), Some("bfbefbe"));
        assert_eq!(file("  ++").as_deref(), None);
        assert!(file(&BASE64.encode(&[0; 64])).is_some());
        assert!(file(&BASE64.encode(&[0; 65])).is_none());
    }
}
