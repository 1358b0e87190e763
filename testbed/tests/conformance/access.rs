//! Keys, tokens and row-level security.

use reqwest::Method;
use serde_json::json;
use tidelock_testbed::{Project, Session};

use crate::support::*;

async fn insert(project: &Project, who: As<'_>, table: &str, row: String, prefer: &str) -> Answer {
    request(project, who, Method::POST, table).prefer(prefer).body(row).send().await
}

async fn two_users(project: &Project) -> [Session; 2] {
    [project.any_user().await.unwrap(), project.any_user().await.unwrap()]
}

#[tokio::test]
async fn a_user_sees_and_changes_only_rows_of_their_own() {
    let project = tidelock_testbed::project().await.unwrap();
    let [one, other] = two_users(&project).await;
    let mine = insert(&project, As::User(&one), "owned", format!(r#"{{"id":"{A}"}}"#), REPRESENTATION).await;
    assert_eq!((mine.status, &mine.rows()[0]["owner"]), (201, &json!(one.user_id)), "{mine:?}");
    let path = format!("owned?id=eq.{A}");
    for (who, seen) in [(As::User(&one), 1), (As::User(&other), 0), (As::Anon, 0), (As::Service, 1)] {
        assert_eq!(request(&project, who, Method::GET, &path).send().await.rows().len(), seen);
    }
    let theirs = request(&project, As::User(&other), Method::PATCH, &path).prefer(REPRESENTATION);
    let theirs = theirs.body(r#"{"title":"stolen"}"#).send().await;
    assert_eq!((theirs.status, theirs.body.as_str()), (200, "[]"), "an update that is denied looks like no row");
    let theirs = request(&project, As::User(&other), Method::DELETE, &path).prefer(REPRESENTATION).send().await;
    assert_eq!((theirs.status, theirs.body.as_str()), (200, "[]"));
}

#[tokio::test]
async fn a_denied_insert_is_403_for_a_user_and_401_without_one() {
    let project = tidelock_testbed::project().await.unwrap();
    let [one, other] = two_users(&project).await;
    let foreign = format!(r#"{{"id":"{A}","owner":"{}"}}"#, other.user_id);
    let denied = (403, "42501".to_owned());
    assert_eq!(insert(&project, As::User(&one), "owned", foreign.clone(), "").await.error(), denied);
    assert_eq!(insert(&project, As::Anon, "owned", foreign.clone(), "").await.error(), (401, "42501".into()));
    // The same for an upsert over a row that row-level security hides.
    assert_eq!(insert(&project, As::User(&other), "owned", foreign, "").await.status, 201);
    let over = format!(r#"{{"id":"{A}","title":"mine now"}}"#);
    let merge = "resolution=merge-duplicates,return=representation";
    assert_eq!(insert(&project, As::User(&one), "owned", over.clone(), merge).await.error(), denied);
    let ignored =
        insert(&project, As::User(&one), "owned", over, "resolution=ignore-duplicates,return=representation").await;
    assert_eq!((ignored.status, ignored.body.as_str()), (201, "[]"));
}

#[tokio::test]
async fn a_table_may_silently_deny_updates_only() {
    let project = tidelock_testbed::project().await.unwrap();
    let user = project.any_user().await.unwrap();
    let added = insert(&project, As::User(&user), "readonly_for_users", format!(r#"{{"id":"{A}"}}"#), "").await;
    assert_eq!(added.status, 201, "{added:?}");
    let path = format!("readonly_for_users?id=eq.{A}");
    let change = request(&project, As::User(&user), Method::PATCH, &path).prefer(REPRESENTATION);
    let change = change.body(r#"{"title":"x"}"#).send().await;
    assert_eq!((change.status, change.body.as_str()), (200, "[]"));
    assert_eq!(request(&project, As::User(&user), Method::GET, &path).send().await.rows().len(), 1);
}

#[tokio::test]
async fn bad_tokens_and_keys_are_401() {
    let project = tidelock_testbed::project().await.unwrap();
    let bad = request(&project, As::Token("bad.bad.bad"), Method::GET, "notes").send().await;
    assert_eq!((bad.status, bad.json()["code"].as_str()), (401, Some("PGRST301")));
    let client = reqwest::Client::new();
    let address = format!("{}/rest/v1/notes", project.url);
    assert_eq!(client.get(&address).send().await.unwrap().status(), 401, "no key at all");
    assert_eq!(client.get(&address).header("apikey", "wrong").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn an_expired_token_is_401_after_half_a_minute_of_grace() {
    let project = tidelock_testbed::project().await.unwrap();
    if project.is_external() {
        return eprintln!("skipped: tokens of an external project cannot be minted");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = |expired_s| {
        let user = "11111111-0000-4000-8000-000000000000";
        let claims = json!({"sub": user, "role": "authenticated", "aud": "authenticated", "exp": now - expired_s});
        project.mint_token(&claims).unwrap()
    };
    let expired = request(&project, As::Token(&token(60)), Method::GET, "notes").send().await;
    assert_eq!((expired.status, expired.json()["code"].as_str()), (401, Some("PGRST303")), "{expired:?}");
    let graced = request(&project, As::Token(&token(10)), Method::GET, "notes").send().await;
    assert_eq!(graced.status, 200, "{graced:?}");
}

#[tokio::test]
async fn a_session_can_be_refreshed_once() {
    let project = tidelock_testbed::project().await.unwrap();
    let session = project.any_user().await.unwrap();
    let client = reqwest::Client::new();
    let refresh = |token: String| {
        let path = format!("{}/auth/v1/token?grant_type=refresh_token", project.url);
        let request = client.post(path).header("apikey", &project.publishable_key);
        request.json(&json!({ "refresh_token": token })).send()
    };
    let answer = refresh(session.refresh_token.clone()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let renewed: serde_json::Value = answer.json().await.unwrap();
    assert_ne!(renewed["refresh_token"].as_str().unwrap(), session.refresh_token);
    assert!(refresh("no-such-token".into()).await.unwrap().status().is_client_error());
}
