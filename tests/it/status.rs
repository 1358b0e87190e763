//! What the status says beyond the counts: when what moved last, how the server stands, as whom it is asked.

use jiff::Timestamp;
use serde_json::json;
use tidelock::{NextRound, Phase, SessionState, SyncRequest};

use crate::support::{Device, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_and_what_moved_last_is_told_by_collection_and_outlives_a_restart() {
    for world in World::both().await {
        let device = world.device("here");
        let began = Timestamp::now();
        device.save("notes", "a", r#"{"body":"12345"}"#).await;
        let waiting = device.told(|status| status.pending_bytes > 0).await;
        let oldest = waiting.oldest_pending_at.unwrap();
        assert!(oldest.as_millisecond() >= began.as_millisecond() && oldest <= Timestamp::now(), "{oldest}");
        assert_eq!(waiting.collections["notes"].oldest_pending_at, Some(oldest));
        assert_eq!(waiting.collections["notes"].pending_bytes, waiting.pending_bytes);
        assert_eq!(waiting.collections["tasks"].oldest_pending_at, None);
        assert_eq!((waiting.last_pushed_at, waiting.server.caught_up_at), (None, None));
        assert_eq!(
            (waiting.phase, waiting.phase_reason.as_str()),
            (Phase::Paused, "rounds run only when they are asked for (sync.auto is false)")
        );

        device.sync().await;
        let synced = device.told(|status| status.last_synced_at.is_some()).await;
        assert_eq!((synced.pending_bytes, synced.oldest_pending_at), (0, None));
        let notes = &synced.collections["notes"];
        assert!(notes.last_pushed_at >= Some(began) && notes.last_pulled_at >= notes.last_pushed_at, "{notes:?}");
        assert_eq!(synced.collections["tasks"].last_pushed_at, None);
        assert!(synced.server.caught_up_at >= notes.last_pushed_at);
        assert_eq!(synced.last_pushed_at, notes.last_pushed_at);
        assert!(synced.clock_offset_ms.is_some_and(|offset| offset.abs() < 60_000), "{:?}", synced.clock_offset_ms);

        device.tidelock.shutdown().await;
        drop(device);
        let again = world.device("here").tidelock.status();
        assert_eq!(again.collections["notes"].last_pushed_at, notes.last_pushed_at);
        assert_eq!(again.server.caught_up_at, synced.server.caught_up_at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_on_the_server_is_seen() {
    let world = World::with_kit().await;
    let Some(address) = &world.project.database_url else {
        println!("without the database's address no transaction can be left open there");
        return;
    };
    let device = world.device("here");
    device.sync().await;
    let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("begin; insert into public.notes (id) values ('open')").await.unwrap();
    let own = client.query_one("select pg_current_xact_id()::text", &[]).await.unwrap().get::<_, String>(0);
    let own: u64 = own.parse().unwrap();
    // A snapshot knows of an open transaction once a later one has ended.
    world.project.sql("insert into public.notes (id) values ('later')").await.unwrap();
    device.sync().await;
    let first = device.tidelock.status().server;
    // Others may have begun one before.
    assert!(first.open_transactions >= Some(1) && first.oldest_open_transaction <= Some(own), "{own}: {first:?}");
    assert!(first.oldest_open_seen_at.is_some(), "{first:?}");
    device.sync().await;
    let second = device.tidelock.status().server;
    if second.oldest_open_transaction == first.oldest_open_transaction {
        assert_eq!(second.oldest_open_seen_at, first.oldest_open_seen_at, "it is known since when");
    }
    client.batch_execute("commit").await.unwrap();
    device.sync().await;
    assert_ne!(device.tidelock.status().server.oldest_open_transaction, Some(own));
    assert!(device.get("notes", "open").await.is_some(), "what it wrote has come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_and_the_next_round_are_told_with_their_reasons() {
    let world = World::new().await;
    let device = world.device("here");
    assert_eq!(device.tidelock.status().session.state, SessionState::Anonymous);
    if !world.project.is_external() {
        let claims = json!({ "sub": "somebody", "role": "service_role", "exp": 4_000_000_000_u32 });
        device.tidelock.set_access_token(Some(world.project.mint_token(&claims).unwrap().into()));
        // Nothing but the token has changed, and whoever follows the status is told.
        let session = device.told(|status| status.session.state == SessionState::SignedIn).await.session;
        assert_eq!(session.user.as_deref(), Some("somebody"));
        assert_eq!(session.expires_at.map(Timestamp::as_second), Some(4_000_000_000));
    }
    let text = world.config_text(&world.folder("auto"), "auto = true").replace(&world.project.secret_key, "sb_wrong");
    let tidelock = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
    let refused = Device { tidelock, directory: world.folder("auto") };
    let status = refused.told(|status| status.phase == Phase::NeedsAuth).await;
    assert_eq!((status.session.state, status.next_round_reason), (SessionState::NeedsAuth, Some(NextRound::Retry)));
    assert!(status.phase_reason.starts_with("the server does not accept the credentials: "), "{}", status.phase_reason);
    assert!(status.next_round_at > Some(Timestamp::now()));
    assert!(refused.tidelock.sync(SyncRequest::default()).await.is_err());
}
