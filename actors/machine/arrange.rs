//! The order within a batch: parents are saved before their children and deleted after them (H21), and what
//! goes to one table stands together, so that it can travel in one request.
//!
//! Only what cannot matter is moved: operations of one collection keep their order (a unique value may pass from one
//! record to another), except that deletions which nothing can refer to go first; and a save that names a record made
//! before it stays behind that one, whatever the declarations say.

use std::collections::HashSet;

use super::coalesce::Coalesced;
use super::made::Made;
use super::relations::Relations;
use crate::model::{Action, RecordId};

/// Arranges a batch.
pub fn arrange(batch: Vec<Coalesced>, relations: &Relations) -> Vec<Coalesced> {
    let mut arranged = Vec::with_capacity(batch.len());
    let mut stretch = Stretch::default();
    for one in batch {
        if !stretch.takes(&one, relations) {
            stretch.end(relations, &mut arranged);
        }
        stretch.add(one, relations);
    }
    stretch.end(relations, &mut arranged);
    arranged
}

/// A stretch whose operations may be ordered anew: saves with free deletions, or deletions alone.
#[derive(Default)]
struct Stretch {
    free_deletions: Vec<Coalesced>,
    saves: Vec<Coalesced>,
    saved: HashSet<RecordId>,
    made: Made,
    deletions: Vec<Coalesced>,
}

impl Stretch {
    fn takes(&self, one: &Coalesced, relations: &Relations) -> bool {
        match (is_deletion(one), relations.has_descendants(&one.id.collection)) {
            (false, _) => self.deletions.is_empty() && !self.made.would_follow(&one.id, &one.patch, relations),
            (true, false) => !self.saved.contains(&one.id),
            (true, true) => self.saves.is_empty() && self.free_deletions.is_empty(),
        }
    }

    fn add(&mut self, one: Coalesced, relations: &Relations) {
        match (is_deletion(&one), relations.has_descendants(&one.id.collection)) {
            (false, _) => {
                self.saved.insert(one.id.clone());
                if one.action == Some(Action::Create) {
                    self.made.add(&one.id);
                }
                self.saves.push(one);
            }
            (true, false) if self.deletions.is_empty() => self.free_deletions.push(one),
            (true, _) => self.deletions.push(one),
        }
    }

    fn end(&mut self, relations: &Relations, arranged: &mut Vec<Coalesced>) {
        let depth = |one: &Coalesced| relations.ancestors(&one.id.collection).count();
        self.free_deletions.sort_by(|a, b| a.id.collection.cmp(&b.id.collection));
        self.saves.sort_by(|a, b| depth(a).cmp(&depth(b)).then_with(|| a.id.collection.cmp(&b.id.collection)));
        self.deletions.sort_by(|a, b| depth(b).cmp(&depth(a)).then_with(|| a.id.collection.cmp(&b.id.collection)));
        arranged.append(&mut self.free_deletions);
        arranged.append(&mut self.saves);
        arranged.append(&mut self.deletions);
        self.saved.clear();
        self.made.clear();
    }
}

fn is_deletion(one: &Coalesced) -> bool {
    one.action == Some(Action::Delete)
}

#[cfg(test)]
mod tests {
    use super::super::coalesce::tests::relations;
    use super::*;
    use crate::document::Document;

    /// `+` creates, `~` updates, `-` deletes.
    fn check(batch: &[&str], expected: &[&str]) {
        let parse = |(text, sequence): (&&str, i64)| {
            let (collection, key) = text[1..].split_once('/').unwrap();
            let action = match &text[..1] {
                "+" => Action::Create,
                "~" => Action::Update,
                _ => Action::Delete,
            };
            Coalesced {
                covers: vec![sequence],
                transactions: vec![sequence],
                id: RecordId::new(collection, key),
                action: Some(action),
                patch: Document::empty(),
                attempts: 0,
            }
        };
        let arranged = arrange(batch.iter().zip(1..).map(parse).collect(), &relations());
        let texts: Vec<&str> = arranged.iter().map(|one| batch[one.covers[0] as usize - 1]).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn h21_parents_are_saved_first_and_deleted_last() {
        check(
            &["+steps/s", "+tasks/t", "+projects/p", "+tasks/u"],
            &["+projects/p", "+tasks/t", "+tasks/u", "+steps/s"],
        );
        check(&["-projects/p", "-tasks/t", "-projects/q"], &["-tasks/t", "-projects/p", "-projects/q"]);
    }

    #[test]
    fn one_collections_operations_keep_their_order() {
        check(&["~tasks/a", "+notes/n", "+tasks/b", "~tasks/c"], &["+notes/n", "~tasks/a", "+tasks/b", "~tasks/c"]);
    }

    #[test]
    fn a_deletion_that_something_may_refer_to_does_not_pass_a_save() {
        check(&["~tasks/t", "-projects/p", "+projects/q"], &["~tasks/t", "-projects/p", "+projects/q"]);
    }

    #[test]
    fn a_record_deleted_and_made_again_keeps_that_order_and_so_does_the_reverse() {
        check(&["+notes/x", "-notes/a", "+notes/a"], &["-notes/a", "+notes/x", "+notes/a"]);
        check(&["+notes/a", "-notes/a", "+notes/b"], &["+notes/a", "-notes/a", "+notes/b"]);
    }
}
