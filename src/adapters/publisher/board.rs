//! The table `tidelock_backups` of the server kit. Row-level security shows each user their own rows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidelock_actors::limits::PAGE_ROWS;
use tidelock_actors::model::Fault;

use super::{FetchError, missing};
use crate::adapters::archive::Notice;
use crate::adapters::supabase::{Account, Query, condition};

const TABLE: &str = "tidelock_backups";

/// What the server says of a backup, as far as that can change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Known {
    pub digest: String,
    pub verified_at: Option<Timestamp>,
    pub object: Option<String>,
}

impl From<&Notice> for Known {
    fn from(notice: &Notice) -> Self {
        let Notice { digest, verified_at, object, .. } = notice.clone();
        Self { digest, verified_at, object }
    }
}

#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(flatten)]
    known: Known,
}

/// A row, by the name of its backup.
trait Named {
    fn id(&self) -> &str;
}

impl Named for Row {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Named for Notice {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The table.
pub(super) struct Board<'a>(pub &'a Account);

impl Board<'_> {
    /// What the server knows of a folder, by the backups' names.
    pub async fn of_place(&self, place: &str) -> Result<BTreeMap<String, Known>, Fault> {
        let rows: Vec<Row> = self.pages(place, "id,digest,verified_at,object").await?;
        Ok(rows.into_iter().map(|row| (row.id, row.known)).collect())
    }

    /// These columns of all rows of a folder, whatever the server gives at once.
    async fn pages<T: DeserializeOwned + Named>(&self, place: &str, columns: &str) -> Result<Vec<T>, Fault> {
        let mut all: Vec<T> = Vec::new();
        loop {
            let mut query = Query::default()
                .with("select", columns)
                .with_filter(&condition("place", "eq", place))
                .with("order", "id")
                .with("limit", &PAGE_ROWS.to_string());
            if let Some(last) = all.last() {
                query = query.with_filter(&condition("id", "gt", last.id()));
            }
            let page: Vec<T> = self.0.rows(TABLE, query).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Tells of backups, or tells something else of them than before.
    pub async fn put(&self, notices: &[Notice]) -> Result<(), Fault> {
        for page in notices.chunks(PAGE_ROWS) {
            self.0.upsert(TABLE, "owner,place,id", page).await?;
        }
        Ok(())
    }

    /// Tells no more of backups.
    pub async fn remove(&self, place: &str, ids: &[&str]) -> Result<(), Fault> {
        let of_place = Query::default().with_filter(&condition("place", "eq", place));
        self.0.delete(TABLE, of_place, "id", ids).await
    }

    /// The newest backups of all devices.
    pub async fn all(&self) -> Result<Vec<Notice>, Fault> {
        self.0.rows(TABLE, newest_first()).await
    }

    /// A backup by its name, or the newest of which there is a file.
    pub async fn find(&self, id: Option<&str>) -> Result<Notice, FetchError> {
        let query = match id {
            Some(id) => newest_first().with_filter(&condition("id", "eq", id)),
            None => newest_first().with("object", "not.is.null"),
        };
        let mut found: Vec<Notice> = self.0.rows(TABLE, query).await?;
        let what = || match id {
            Some(id) => format!("no device of this user's has a backup {id:?}"),
            None => "there is no backup in Supabase Storage".to_owned(),
        };
        if found.is_empty() { Err(missing(what())) } else { Ok(found.swap_remove(0)) }
    }

    /// The backups that it takes to restore one, the full one first.
    pub async fn chain(&self, backup: &Notice) -> Result<Vec<Notice>, FetchError> {
        let query = newest_first().with_filter(&condition("place", "eq", &backup.place)).with_filter(&condition(
            "timestamp",
            "lte",
            &backup.timestamp.to_string(),
        ));
        let rows: Vec<Notice> = self.0.rows(TABLE, query).await?;
        let by_digest: BTreeMap<&str, &Notice> = rows.iter().map(|row| (row.digest.as_str(), row)).collect();
        let mut chain = vec![backup.clone()];
        while let Some(after) = chain.last().and_then(|last| last.after.as_deref()) {
            let gone = || missing(format!("a backup that {} continues is not there", backup.id));
            let before = by_digest.get(after).filter(|_| chain.len() <= rows.len()).ok_or_else(gone)?;
            chain.push((*before).clone());
        }
        chain.reverse();
        Ok(chain)
    }
}

fn newest_first() -> Query {
    Query::default().with("order", "timestamp.desc,id.desc").with("limit", &PAGE_ROWS.to_string())
}
