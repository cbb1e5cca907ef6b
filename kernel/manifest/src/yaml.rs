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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub line: usize,
    pub column: usize,
}

impl From<Span> for Mark {
    fn from(span: Span) -> Self {
        Self {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

pub(crate) struct Raw {
    pub at: Mark,
    pub value: RawValue,
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

    fn begin(&mut self, at: Mark, anchor: usize, is_map: bool) {
        self.open.push(Open {
            at,
            anchor,
            is_map,
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
        plain: bool,
        anchor: usize,
    ) -> Result<(), SyntaxError> {
        let node = Rc::new(Raw {
            at,
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

fn is_forced_text(tag: Option<&Tag>, at: Mark) -> Result<bool, SyntaxError> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
        Some(tag) => Err(wrong(
            at,
            format!("the tag {tag} is not supported"),
            "remove it: one compose file is read, so there is nothing to reset or override",
        )),
    }
}

/// The first document of `text`; `None` if it holds nothing.
pub(crate) fn parse(text: &str) -> Result<Option<Rc<Raw>>, SyntaxError> {
    if text.len() > TEXT_MAX {
        return Err(wrong(
            Mark::default(),
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
                line: e.marker().line(),
                column: e.marker().col() + 1,
            };
            wrong(at, format!("not YAML: {}", e.info()), "correct this line")
        })?;
        let at = Mark::from(span);
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
                let forced = is_forced_text(tag.as_deref(), at)?;
                let plain = style == ScalarStyle::Plain && !forced;
                builder.scalar(at, text.into_owned(), plain, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                is_forced_text(tag.as_deref(), at)?;
                builder.begin(at, anchor, false);
            }
            Event::MappingStart(anchor, tag) => {
                is_forced_text(tag.as_deref(), at)?;
                builder.begin(at, anchor, true);
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
