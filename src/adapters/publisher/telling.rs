//! One time of telling: the server's rows are made equal to the folder, its newest backup is uploaded where that is wanted,
//! and what the folder does not have any more goes from the server as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tidelock_actors::backups::PublishError;
use tidelock_actors::model::FaultKind;

use super::board::{Board, Known};
use super::files::{apart, unwritten};
use super::objects::{self, Upload};
use super::told::Told;
use super::{Everywhere, NO_TABLE, NOBODY};
use crate::adapters::archive::{Notice, Notices};
use crate::locks::locked;

/// Whose backups are told of, and what the server knows of them.
struct Telling<'a> {
    board: Board<'a>,
    user: String,
    bucket: Option<String>,
    /// The folder, and what the server calls it.
    directory: PathBuf,
    place: String,
    told: Told,
    known: BTreeMap<String, Known>,
}

impl Everywhere {
    pub(super) async fn publish(&self) -> Result<(), PublishError> {
        let mut telling = self.begin().await?;
        let place = telling.place.clone();
        let Notices { mut all, unread, newest_chain } =
            self.archive.run(move |archive| archive.notices(&place)).await?;
        if all.is_empty() && telling.told.ids.is_empty() {
            return Ok(());
        }
        telling.tell(&mut all).await?;
        let uploaded = telling.upload(&mut all, newest_chain).await;
        let mut here = unread;
        here.extend(all.into_iter().map(|notice| notice.id));
        // While the newest cannot be uploaded, older files stay there.
        telling.forget(&here, uploaded.is_ok()).await?;
        uploaded
    }

    async fn begin(&self) -> Result<Telling<'_>, PublishError> {
        let bucket = locked(&self.bucket).clone();
        // Whoever wants files there is told why they are not.
        let nowhere = |words: &str| match bucket {
            Some(_) => PublishError::Failed(words.to_owned()),
            None => PublishError::Nowhere(words.to_owned()),
        };
        let user = self.account.user().ok_or_else(|| nowhere(NOBODY))?;
        let (board, directory) = (Board(&self.account), self.archive.directory());
        let told = Told::read(&directory).await.unwrap_or_else(|| Told::new(&user));
        if told.user != user {
            return Err(nowhere("the backups in this folder are another user's"));
        }
        let place = told.place(&self.name, &directory);
        let known = board.of_place(&place).await.map_err(|fault| match fault.kind {
            FaultKind::Schema => nowhere(NO_TABLE),
            _ => fault.into(),
        })?;
        Ok(Telling { board, user, bucket, directory, place, told, known })
    }
}

impl Telling<'_> {
    /// Writes the rows that differ; that they are told of is noted before.
    async fn tell(&mut self, all: &mut [Notice]) -> Result<(), PublishError> {
        for notice in all.iter_mut() {
            let same = self.known.get(&notice.id).filter(|known| known.digest == notice.digest);
            notice.object = same.and_then(|known| known.object.clone());
        }
        self.told.ids.extend(all.iter().map(|notice| notice.id.clone()));
        self.note().await?;
        let is_new = |notice: &&Notice| self.known.get(&notice.id) != Some(&Known::from(*notice));
        let new: Vec<Notice> = all.iter().filter(is_new).cloned().collect();
        Ok(self.board.put(&new).await?)
    }

    /// Puts those files into the bucket that are not there yet, and says so of each.
    async fn upload(&self, all: &mut [Notice], chain: Result<BTreeSet<String>, String>) -> Result<(), PublishError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let chain = chain.map_err(PublishError::Failed)?;
        let is_there = |notice: &Notice| {
            let object = notice.object.as_deref().and_then(|object| object.split_once('/'));
            object.is_some_and(|(held, _)| held == bucket)
        };
        for notice in all.iter_mut().filter(|notice| chain.contains(&notice.id) && !is_there(notice)) {
            let name = objects::name_of(&self.user, &self.place, &notice.id);
            let (file, notes) = (PathBuf::from(&notice.path), &self.directory);
            Upload { account: self.board.0, bucket, name: &name, file: &file, notes }.perform().await?;
            notice.object = Some(format!("{bucket}/{name}"));
            self.board.put(std::slice::from_ref(notice)).await?;
        }
        Ok(())
    }

    /// Removes what was told of and is not here any more: first files, then the rows that tell of them.
    async fn forget(&mut self, here: &BTreeSet<String>, with_files: bool) -> Result<(), PublishError> {
        let away = self.told.ids.difference(here);
        let gone: BTreeMap<&str, &Known> = away
            .filter_map(|id| Some((id.as_str(), self.known.get(id)?)))
            .filter(|(_, known)| with_files || known.object.is_none())
            .collect();
        // A file may be there of which no row tells: its upload ended and the device did.
        let untold = |id: &str| {
            let name = objects::name_of(&self.user, &self.place, id);
            self.bucket.as_ref().map(|bucket| format!("{bucket}/{name}"))
        };
        let file = |(id, known): (&&str, &&Known)| known.object.clone().or_else(|| untold(id));
        let files: Vec<String> = gone.iter().filter_map(file).collect();
        let gone: Vec<&str> = gone.into_keys().collect();
        objects::remove(self.board.0, &files).await?;
        self.board.remove(&self.place, &gone).await?;
        let stays = |id: &&String| here.contains(*id) || self.known.contains_key(*id) && !gone.contains(&id.as_str());
        self.told.ids = self.told.ids.iter().filter(stays).cloned().collect();
        self.note().await
    }

    async fn note(&self) -> Result<(), PublishError> {
        let (told, directory) = (self.told.clone(), self.directory.clone());
        Ok(apart(move || told.write(&directory)).await.map_err(unwritten)?)
    }
}
