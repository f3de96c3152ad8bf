//! What was computed before, by the tokens it was computed from: texts that begin alike share pages instead of computing them again.
//!
//! A tree whose nodes are pages: a path from a root is the beginning of a text. Only confirmed tokens enter. Pages are shared, and whoever
//! writes to a shared one copies it first, so a page may be used up to any of its tokens.

use std::sync::Arc;

use crate::model::{PAGE, Page};

/// Index of a node.
type Id = usize;

#[derive(Debug, Default)]
pub(super) struct Prefixes {
    nodes: Vec<Option<Node>>,
    unused: Vec<Id>,
    roots: Vec<Id>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Node {
    /// Whose keys and values are in the page: as many as fit, or fewer in a node without children.
    tokens: Vec<u32>,
    page: Arc<Page>,
    parent: Option<Id>,
    children: Vec<Id>,
    used: u64,
}

impl Prefixes {
    /// Pages with the longest beginning of `tokens` that is there, and its length.
    pub(super) fn look_up(&mut self, tokens: &[u32]) -> (Vec<Arc<Page>>, usize) {
        self.clock += 1;
        let (mut pages, mut parent, mut len) = (Vec::new(), None, 0);
        while let Some((id, common)) = self.best_child(parent, &tokens[len..]) {
            let Some(node) = &mut self.nodes[id] else { break };
            node.used = self.clock;
            pages.push(Arc::clone(&node.page));
            len += common;
            if common < PAGE {
                break;
            }
            parent = Some(id);
        }
        (pages, len)
    }

    /// Remembers the pages of a text with these tokens.
    pub(super) fn insert(&mut self, tokens: &[u32], pages: &[Arc<Page>]) {
        self.clock += 1;
        let mut parent = None;
        for (tokens, page) in tokens.chunks(PAGE).zip(pages) {
            match self.best_child(parent, tokens) {
                // the same, or more than this
                Some((id, common)) if common == tokens.len() => {
                    self.touch(id);
                    parent = Some(id);
                }
                // the beginning of this
                Some((id, common)) if self.nodes[id].as_ref().is_some_and(|node| node.tokens.len() == common) => {
                    if let Some(node) = &mut self.nodes[id] {
                        (node.tokens, node.page, node.used) = (tokens.to_vec(), Arc::clone(page), self.clock);
                    }
                    parent = Some(id);
                }
                _ => parent = Some(self.add(parent, tokens, page)),
            }
        }
    }

    /// Forgets the page that was not used for longest, of those that nothing depends on. False where there is none.
    pub(super) fn forget_one(&mut self) -> bool {
        let leaves = self.nodes.iter().enumerate().filter_map(|(id, node)| Some((id, node.as_ref()?)));
        let free = leaves.filter(|(_, node)| node.children.is_empty() && Arc::strong_count(&node.page) == 1);
        let Some((id, _)) = free.min_by_key(|(_, node)| node.used) else { return false };
        let Some(node) = self.nodes[id].take() else { return false };
        self.unused.push(id);
        self.children_mut(node.parent).retain(|&child| child != id);
        true
    }

    /// Pages that nothing but this tree holds.
    pub(super) fn evictable(&self) -> usize {
        self.nodes.iter().flatten().filter(|node| Arc::strong_count(&node.page) == 1).count()
    }

    /// The child with the longest common beginning, and its length; none where nothing is common.
    fn best_child(&self, parent: Option<Id>, tokens: &[u32]) -> Option<(Id, usize)> {
        let children = match parent {
            None => &self.roots,
            Some(id) => &self.nodes[id].as_ref()?.children,
        };
        let common = |&id: &Id| {
            let node = self.nodes[id].as_ref()?;
            let common = node.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            (common > 0).then_some((id, common))
        };
        children.iter().filter_map(common).max_by_key(|(_, common)| *common)
    }

    fn add(&mut self, parent: Option<Id>, tokens: &[u32], page: &Arc<Page>) -> Id {
        let node =
            Node { tokens: tokens.to_vec(), page: Arc::clone(page), parent, children: Vec::new(), used: self.clock };
        let id = self.unused.pop().unwrap_or(self.nodes.len());
        if id == self.nodes.len() {
            self.nodes.push(Some(node));
        } else {
            self.nodes[id] = Some(node);
        }
        self.children_mut(parent).push(id);
        id
    }

    fn touch(&mut self, id: Id) {
        if let Some(node) = &mut self.nodes[id] {
            node.used = self.clock;
        }
    }

    fn children_mut(&mut self, parent: Option<Id>) -> &mut Vec<Id> {
        match parent.and_then(|id| self.nodes[id].as_mut()) {
            Some(node) => &mut node.children,
            None => &mut self.roots,
        }
    }
}
