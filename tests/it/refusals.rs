//! What the server will not take is set aside with its cause; everything else flows.

use tidelock::adapters::sqlite::QueueFilter;
use tidelock::{Document, Tidelock};

use crate::support::{Device, World, uuid};

async fn save_thousand_with(world: &World, bad: &str) -> Device {
    let device = world.device("here");
    let documents = (0..1_000).map(|number| {
        let good = format!(r#"{{"title":"good","n":{number},"code":"c{number}"}}"#);
        (uuid(number), Document::parse(if number == 500 { bad } else { &good }).unwrap())
    });
    device.tidelock.bulk_save("tasks", documents.collect()).await.unwrap();
    device
}

async fn parked(device: &Device) -> tidelock::adapters::sqlite::QueuedOperation {
    let mut parked = device.tidelock.queue(QueueFilter::default()).await.unwrap();
    assert_eq!(parked.len(), 1);
    parked.remove(0)
}

#[tokio::test]
async fn h15_one_row_that_breaks_a_check_is_parked_and_999_arrive() {
    let world = World::new().await;
    let device = save_thousand_with(&world, r#"{"title":"bad","n":-1,"code":"c500"}"#).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (999, 1));
    assert_eq!(world.value("select count(*) from public.tasks").await, "999");
    let operation = parked(&device).await;
    let cause = operation.cause.clone().unwrap();
    assert_eq!(cause.code.as_deref(), Some("23514"), "{cause:?}");
    assert_eq!(operation.payload.string("title").as_deref(), Some("bad"));
    assert_eq!(device.field("tasks", &uuid(500), "title").await, r#""bad""#, "H16: the user's data stays");

    world.project.sql("alter table public.tasks drop constraint tasks_n_check").await.unwrap();
    assert_eq!(device.tidelock.redrive(vec![operation.id]).await.unwrap(), 1);
    device.sync_until_settled().await;
    assert_eq!(world.value("select count(*) from public.tasks").await, "1000");
    assert_eq!(device.tidelock.status().parked, 0);
    device.assert_healthy().await;
}

#[tokio::test]
async fn a_duplicate_is_parked_and_an_edit_mends_it() {
    let world = World::new().await;
    let device = save_thousand_with(&world, r#"{"title":"bad","code":"c7"}"#).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (999, 1));
    assert_eq!(parked(&device).await.cause.unwrap().code.as_deref(), Some("23505"));
    device.save("tasks", &uuid(500), r#"{"code":"c500"}"#).await;
    device.sync_until_settled().await;
    assert_eq!(world.value("select count(*) from public.tasks").await, "1000");
    assert_eq!(device.tidelock.status().parked, 0);
}

#[tokio::test]
async fn h16_a_refused_record_stays_on_the_device_whatever_the_refusal() {
    let world = World::new().await;
    let device = world.device("here");
    device.save("tasks", &uuid(1), r#"{"title":"taken","code":"same"}"#).await;
    device.sync().await;
    device.save("tasks", &uuid(2), r#"{"title":"duplicate","code":"same"}"#).await;
    device.save("tasks", &uuid(3), r#"{"title":"negative","n":-1}"#).await;
    device.save("tasks", &uuid(4), r#"{"title":"no number","n":"x"}"#).await;
    for _ in 0..3 {
        device.sync().await;
    }
    assert_eq!(device.tidelock.status().parked, 3);
    assert_eq!(device.records("tasks").await.len(), 4);
}

#[tokio::test]
async fn h35_a_field_that_the_server_lacks_pauses_the_push_and_can_be_given_up() {
    let world = World::new().await;
    let device = world.device("here");
    device.save("notes", "a", r#"{"bdoy":"a typo"}"#).await;
    let report = device.sync().await;
    assert!(report.paused.contains_key("notes"), "{report:?}");
    assert_eq!((device.tidelock.status().pending, device.tidelock.status().parked), (1, 0));
    let waiting = device.tidelock.queue(QueueFilter::default()).await.unwrap();
    assert_eq!(device.tidelock.discard(vec![waiting[0].id]).await.unwrap(), 1);
    device.save("notes", "a", r#"{"body":"mended"}"#).await;
    device.sync_until_settled().await;
    assert_eq!(world.rows("notes").await.len(), 1);
}

#[tokio::test]
async fn what_was_parked_can_be_given_up() {
    let world = World::new().await;
    let device = save_thousand_with(&world, r#"{"title":"bad","n":-1}"#).await;
    device.sync().await;
    assert_eq!(device.tidelock.discard(vec![parked(&device).await.id]).await.unwrap(), 1);
    assert_eq!(device.get("tasks", &uuid(500)).await, None, "a create that is given up is gone …");
    let versions = device.tidelock.history("tasks", &uuid(500)).await.unwrap();
    assert_eq!(versions.len(), 1, "… but stays in the history");
    device.sync_until_settled().await;
    device.assert_healthy().await;
}

/// A signed-in user's device on the tables with row-level security.
async fn users_device(world: &World) -> Device {
    let session = world.project.any_user().await.unwrap();
    let directory = world.folder("user");
    let text = format!(
        r#"
        [remote]
        url = "{url}"
        anon_key = "{key}"
        access_token = "{token}"
        [sync]
        auto = false
        [storage]
        data_dir = "{directory}"
        [collections.owned]
        table = "owned"
        [collections.readonly]
        table = "readonly_for_users"
        "#,
        url = world.network.url,
        key = world.project.publishable_key,
        token = session.access_token,
        directory = directory.display(),
    );
    Device { tidelock: Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap(), directory }
}

#[tokio::test]
async fn a_row_that_row_level_security_denies_is_parked_and_999_arrive() {
    let world = World::new().await;
    let device = users_device(&world).await;
    let documents = (0..1_000).map(|number| {
        let owner = if number == 500 {
            format!(r#"{{"title":"x","owner":"{}"}}"#, uuid(9))
        } else {
            r#"{"title":"x"}"#.to_owned()
        };
        (uuid(number), Document::parse(&owner).unwrap())
    });
    device.tidelock.bulk_save("owned", documents.collect()).await.unwrap();
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (999, 1));
    assert_eq!(parked(&device).await.cause.unwrap().code.as_deref(), Some("42501"));
}

#[tokio::test]
async fn h27_an_update_that_row_level_security_ignores_is_not_taken_for_done() {
    let world = World::new().await;
    let device = users_device(&world).await;
    device.save("readonly", &uuid(1), r#"{"title":"once"}"#).await;
    device.sync().await;
    device.save("readonly", &uuid(1), r#"{"title":"twice"}"#).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (0, 1));
    assert_eq!(parked(&device).await.cause.unwrap().code.as_deref(), Some("42501"));
    assert_eq!(device.field("readonly", &uuid(1), "title").await, r#""twice""#);
}

#[tokio::test]
async fn h28_a_create_is_an_insert_and_an_update_an_update() {
    let world = World::new().await;
    let device = users_device(&world).await;
    device.save("owned", &uuid(1), r#"{"title":"a"}"#).await;
    device.sync().await;
    device.save("owned", &uuid(1), r#"{"title":"b"}"#).await;
    device.sync().await;
    let methods: Vec<String> = world
        .network
        .requests()
        .into_iter()
        // The server is asked whether it has the kit.
        .filter(|(method, path)| method != "GET" && method != "HEAD" && !path.contains("/rpc/"))
        .map(|(method, _)| method)
        .collect();
    assert_eq!(methods, ["POST", "PATCH"]);
    assert_eq!(world.value("select title from public.owned").await, "b");
}

#[tokio::test]
async fn h55_an_insert_over_a_row_that_may_not_be_seen_is_not_taken_for_done() {
    let world = World::new().await;
    let device = users_device(&world).await;
    let hidden = format!("insert into public.owned (id, owner, title) values ('{}', '{}', 'hidden')", uuid(1), uuid(9));
    world.project.sql(&hidden).await.unwrap();
    device.save("owned", &uuid(1), r#"{"title":"mine"}"#).await;
    let report = device.sync().await;
    assert_eq!((report.pushed, report.parked), (0, 1));
    assert_eq!(world.value("select title from public.owned").await, "hidden");
}

#[tokio::test]
async fn h15_children_of_a_parked_record_wait_with_it_and_follow_it() {
    let world = World::new().await;
    let device = world.device("here");
    world.project.sql("alter table public.projects add constraint named check (name <> 'bad')").await.unwrap();
    device.save("projects", &uuid(1), r#"{"name":"bad"}"#).await;
    device.save("tasks", &uuid(2), &format!(r#"{{"project_id":"{}","title":"child"}}"#, uuid(1))).await;
    device.save("tasks", &uuid(3), r#"{"title":"free"}"#).await;
    device.sync().await;
    let status = device.tidelock.status();
    assert_eq!((status.pending, status.parked), (0, 2), "{status:?}");
    assert_eq!(world.rows("tasks").await.len(), 1, "what does not depend on it flows");
    device.save("projects", &uuid(1), r#"{"name":"good"}"#).await;
    device.sync_until_settled().await;
    assert_eq!(device.tidelock.status().parked, 0);
    assert_eq!(world.rows("tasks").await.len(), 2);
    device.assert_healthy().await;
}

#[tokio::test]
async fn h35_a_table_that_is_missing_pauses_its_collection_and_charges_nothing() {
    let world = World::new().await;
    let device = world.device_with("here", "[collections.absent]\ntable = \"absent\"");
    device.save("absent", "a", r#"{"x":1}"#).await;
    device.save("notes", "n", r#"{"body":"x"}"#).await;
    for _ in 0..5 {
        let report = device.sync().await;
        assert!(report.paused.contains_key("absent"), "{report:?}");
    }
    let status = device.tidelock.status();
    assert_eq!((status.pending, status.parked), (1, 0));
    assert!(status.collections["absent"].paused.is_some());
    assert_eq!(world.rows("notes").await.len(), 1, "the others go on");
    world.project.sql("create table public.absent (id text primary key, x int); alter table public.absent enable row level security; create policy e on public.absent using (true) with check (true); grant all on public.absent to anon, authenticated, service_role; notify pgrst, 'reload schema'").await.unwrap();
    device.sync_until_settled().await;
    assert_eq!(world.value("select x from public.absent").await, "1");
}

#[tokio::test]
async fn h14_refused_credentials_pause_sending_and_charge_nothing() {
    let world = World::new().await;
    let device = users_device(&world).await;
    device.tidelock.set_access_token(Some("not.a.token".to_owned().into()));
    device.save("owned", &uuid(1), r#"{"title":"a"}"#).await;
    for _ in 0..5 {
        let error = device.tidelock.sync(Default::default()).await.unwrap_err();
        assert_eq!((error.code(), error.exit_code()), ("unauthorized", 4), "{error}");
    }
    assert_eq!((device.tidelock.status().pending, device.tidelock.status().parked), (1, 0));
    device.tidelock.set_access_token(Some(world.project.any_user().await.unwrap().access_token.into()));
    device.sync_until_settled().await;
    assert_eq!(world.rows("owned").await.len(), 1);
}

#[tokio::test]
async fn h25_losing_the_token_neither_empties_the_store_nor_parks_anything() {
    let world = World::new().await;
    let device = users_device(&world).await;
    device.save("owned", &uuid(1), r#"{"title":"mine"}"#).await;
    device.sync().await;
    device.save("owned", &uuid(1), r#"{"title":"edited"}"#).await;
    device.tidelock.set_access_token(None);
    let error = device.tidelock.sync(Default::default()).await.unwrap_err();
    assert_eq!(error.code(), "unauthorized", "{error}");
    assert_eq!(device.field("owned", &uuid(1), "title").await, r#""edited""#);
    assert_eq!((device.tidelock.status().pending, device.tidelock.status().parked), (1, 0));
}

#[tokio::test]
async fn h25_a_reload_of_the_configuration_keeps_the_token_that_the_host_gave() {
    let world = World::new().await;
    let device = users_device(&world).await;
    let mut config = device.tidelock.config();
    config.remote.access_token = None;
    device.tidelock.reconfigure(config.clone()).await.unwrap();
    device.tidelock.set_access_token(Some(world.project.any_user().await.unwrap().access_token.into()));
    config.sync.max_retries = 7;
    device.tidelock.reconfigure(config).await.unwrap();
    device.save("owned", &uuid(1), r#"{"title":"mine"}"#).await;
    assert_eq!(device.sync().await.pushed, 1);
}

#[tokio::test]
async fn a_statement_that_always_times_out_stops_neither_the_others_nor_the_pull() {
    let world = World::new().await;
    let device = world.device("here");
    world
        .project
        .sql(
            "create function slow() returns trigger language plpgsql as
             $$ begin if new.title = 'slow' then raise exception using errcode = '57014', message = 'timeout'; end if; return new; end $$;
             create trigger slow before insert on public.tasks for each row execute function slow();",
        )
        .await
        .unwrap();
    device.save("tasks", &uuid(1), r#"{"title":"slow"}"#).await;
    device.save("tasks", &uuid(2), r#"{"title":"quick"}"#).await;
    world
        .project
        .sql(&format!("insert into public.projects (id, name) values ('{}', 'theirs')", uuid(3)))
        .await
        .unwrap();
    let report = device.sync().await;
    assert_eq!((report.pushed, report.failed, report.parked), (1, 1, 0), "{report:?}");
    assert_eq!(device.records("projects").await.len(), 1, "the pull went on");
    assert!(device.tidelock.status().last_error.is_some());
}
