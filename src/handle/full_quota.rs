//! The quota through the whole runtime, with a server that has more than fits.

use tidelock_actors::document::Document;

use super::full_disk::{long, server};
use super::{Config, Tidelock};
use crate::adapters::sqlite::Fullness;

fn config(folder: &std::path::Path, quota: &str) -> Config {
    let text = format!(
        "[remote]\nmode = \"plain\"\nurl = \"{}\"\nanon_key = \"key\"\n[sync]\nauto = false\n[backup]\nenabled = false\n\
         [storage]\ndata_dir = \"{}\"\nquota = \"{quota}\"\n\
         [collections.notes]\ndirection = \"pull\"\n[collections.drafts]\ndirection = \"local\"",
        server(),
        folder.display()
    );
    Config::from_toml(&text).unwrap()
}

#[tokio::test]
async fn at_the_quota_saves_and_pulls_are_refused_until_there_is_room_and_then_go_on_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "1MB");
    let tidelock = Tidelock::open(config.clone()).unwrap();
    let save = async |key: &str| tidelock.save("drafts", key, Document::parse(&long(key)).unwrap()).await;
    let mut taken = 0;
    let refused = loop {
        match save(&taken.to_string()).await {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.code(), refused.exit_code()), ("quota_exceeded", 1), "{refused}");
    let status = tidelock.status();
    assert_eq!((status.storage.state, status.storage.quota_bytes), (Fullness::Full, Some(1_000_000)));

    assert!(tidelock.sync(Default::default()).await.is_err());
    let said = tidelock.status().last_error.unwrap_or_default();
    assert!(said.contains("storage.quota allows"), "{said}");
    assert!(tidelock.get("notes", "there").await.unwrap().is_none());
    assert!(tidelock.get("drafts", "0").await.unwrap().is_some(), "reads go on");
    assert!(tidelock.verify_integrity().await.unwrap().healthy);

    for key in 0..taken {
        assert!(tidelock.delete("drafts", &key.to_string()).await.unwrap());
    }
    assert!(tidelock.compact().await.is_ok() && save("more").await.is_err(), "what was deleted is in the history");
    tidelock.compact_and_forget().await.unwrap();
    assert_eq!(tidelock.status().storage.state, Fullness::Ok);
    save("after").await.unwrap();
    tidelock.sync(Default::default()).await.unwrap();
    assert!(tidelock.get("notes", "there").await.unwrap().is_some(), "its checkpoint was not moved past it");
    assert_eq!(tidelock.status().last_error, None);

    while save(&taken.to_string()).await.is_ok() {
        taken += 1;
    }
    let mut larger = config;
    larger.storage.quota = Some(crate::config::Size(2_000_000));
    assert_eq!(tidelock.reconfigure(larger).await.unwrap(), [""; 0], "no restart");
    save("with more room").await.unwrap();
    assert!(tidelock.verify_integrity().await.unwrap().healthy);
}
