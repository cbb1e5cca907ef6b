//! YAML text into a tree that remembers lines.
//!
//! Aliases share their anchor's node, so reading is linear in the text; what the tree would
//! weigh with every alias written out is counted and bounded, so walking it is too.

use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

pub(crate) const TEXT_MAX: usize = 1 << 20;
/// Nodes with every alias written out.
pub(crate) const NODES_MAX: u64 = 50_000;
/// Bytes of scalars with every alias written out.
pub(crate) const BYTES_MAX: u64 = 4 << 20;
pub(crate) const DEPTH_MAX: u32 = 40;

/// Line and column from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// Which of the files that are read, from 0.
    pub file: usize,
    pub line: usize,
    pub column: usize,
}

impl Mark {
    fn of(file: usize, span: Span) -> Self {
        Self {
            file,
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

/// What a value does to the one that an earlier file has in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Merge,
    /// `!override`
    Replace,
    /// `!reset`
    Remove,
}

pub(crate) struct Raw {
    pub at: Mark,
    pub value: RawValue,
    pub over: Over,
    nodes: u64,
    bytes: u64,
    depth: u32,
}

pub(crate) enum RawValue {
    Scalar { text: String, plain: bool },
    List(Vec<Rc<Raw>>),
    Map(Vec<(Rc<Raw>, Rc<Raw>)>),
}

pub(crate) struct SyntaxError {
    pub at: Mark,
    pub what: String,
    pub next: String,
}

fn wrong(at: Mark, what: impl Into<String>, next: impl Into<String>) -> SyntaxError {
    SyntaxError {
        at,
        what: what.into(),
        next: next.into(),
    }
}

/// A collection that is not closed yet.
struct Open {
    at: Mark,
    anchor: usize,
    is_map: bool,
    over: Over,
    children: Vec<Rc<Raw>>,
    nodes: u64,
    bytes: u64,
    depth: u32,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Raw>>,
    root: Option<Rc<Raw>>,
}

impl Builder {
    fn add(&mut self, node: Rc<Raw>, at: Mark) -> Result<(), SyntaxError> {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.nodes = parent.nodes.saturating_add(node.nodes);
        parent.bytes = parent.bytes.saturating_add(node.bytes);
        parent.depth = parent.depth.max(node.depth.saturating_add(1));
        if parent.nodes > NODES_MAX || parent.bytes > BYTES_MAX {
            return Err(wrong(
                at,
                format!(
                    "with its aliases written out the file has more than {NODES_MAX} values or {} MiB",
                    BYTES_MAX >> 20
                ),
                "use fewer aliases of aliases",
            ));
        }
        parent.children.push(node);
        Ok(())
    }

    fn begin(&mut self, at: Mark, anchor: usize, is_map: bool, over: Over) {
        self.open.push(Open {
            at,
            anchor,
            is_map,
            over,
            children: Vec::new(),
            nodes: 1,
            bytes: 0,
            depth: 1,
        });
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        if open.depth > DEPTH_MAX {
            return Err(too_deep(open.at));
        }
        let value = if open.is_map {
            let mut pairs = Vec::with_capacity(open.children.len() / 2);
            let mut children = open.children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                pairs.push((key, value));
            }
            RawValue::Map(pairs)
        } else {
            RawValue::List(open.children)
        };
        let node = Rc::new(Raw {
            at: open.at,
            value,
            over: open.over,
            nodes: open.nodes,
            bytes: open.bytes,
            depth: open.depth,
        });
        if open.anchor > 0 {
            self.anchors.insert(open.anchor, node.clone());
        }
        self.add(node, open.at)
    }

    fn scalar(
        &mut self,
        at: Mark,
        text: String,
        tag: Tagged,
        anchor: usize,
    ) -> Result<(), SyntaxError> {
        let plain = !tag.is_text;
        let node = Rc::new(Raw {
            at,
            over: tag.over,
            nodes: 1,
            bytes: text.len() as u64,
            depth: 1,
            value: RawValue::Scalar { text, plain },
        });
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node, at)
    }
}

fn too_deep(at: Mark) -> SyntaxError {
    wrong(
        at,
        format!("more than {DEPTH_MAX} levels inside one another"),
        "flatten the file",
    )
}

struct Tagged {
    /// A text, whatever it looks like.
    is_text: bool,
    over: Over,
}

fn tagged(tag: Option<&Tag>, at: Mark) -> Result<Tagged, SyntaxError> {
    let merge = |is_text| Tagged {
        is_text,
        over: Over::Merge,
    };
    let over = |over| Tagged {
        is_text: false,
        over,
    };
    match tag {
        None => Ok(merge(false)),
        Some(tag) if tag.is_yaml_core_schema() => Ok(merge(tag.suffix == "str")),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(merge(true)),
        Some(tag) if tag.handle == "!" && tag.suffix == "reset" => Ok(over(Over::Remove)),
        Some(tag) if tag.handle == "!" && tag.suffix == "override" => Ok(over(Over::Replace)),
        Some(tag) => Err(wrong(
            at,
            format!("the tag {tag} is not known"),
            "remove it: known are !reset and !override",
        )),
    }
}

/// The first document of `text`; `None` if it holds nothing.
pub(crate) fn parse(file: usize, text: &str) -> Result<Option<Rc<Raw>>, SyntaxError> {
    if text.len() > TEXT_MAX {
        return Err(wrong(
            Mark {
                file,
                ..Mark::default()
            },
            format!(
                "the file has {} bytes; at most {TEXT_MAX} are read",
                text.len()
            ),
            "split the project",
        ));
    }
    let mut builder = Builder::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            let at = Mark {
                file,
                line: e.marker().line(),
                column: e.marker().col() + 1,
            };
            wrong(at, format!("not YAML: {}", e.info()), "correct this line")
        })?;
        let at = Mark::of(file, span);
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(wrong(
                        at,
                        "a second document begins here",
                        "keep one document in a file",
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mut tag = tagged(tag.as_deref(), at)?;
                tag.is_text |= style != ScalarStyle::Plain;
                builder.scalar(at, text.into_owned(), tag, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                let over = tagged(tag.as_deref(), at)?.over;
                builder.begin(at, anchor, false, over);
            }
            Event::MappingStart(anchor, tag) => {
                let over = tagged(tag.as_deref(), at)?.over;
                builder.begin(at, anchor, true, over);
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end()?,
            Event::Alias(anchor) => {
                let Some(node) = builder.anchors.get(&anchor).cloned() else {
                    return Err(wrong(
                        at,
                        "this alias stands inside what it stands for",
                        "write the value out",
                    ));
                };
                builder.add(node, at)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        if builder.open.len() > DEPTH_MAX as usize {
            return Err(too_deep(at));
        }
    }
    Ok(builder.root)
}
