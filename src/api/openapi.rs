//! The OpenAPI document (3.1), made from the table of addresses and the types of their handlers.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::address::Address;
use super::asked::JSON_TEXT;
use super::problem::Problem;
use super::routes;

/// Where the document has the schemas.
const SCHEMAS: &str = "/components/schemas";

/// One operation in the making: what one method of one address takes and answers.
pub(super) struct Operation<'a> {
    path: &'a str,
    /// Schemas of what comes in: what has a usual value may be left out.
    taken: &'a mut SchemaGenerator,
    /// Schemas of what goes out: what is always there is required.
    given: &'a mut SchemaGenerator,
    parameters: Vec<Value>,
    body: Option<Value>,
    answer: Value,
}

impl Operation<'_> {
    /// The variable parts of the address are of these types, in order.
    pub(super) fn path(&mut self, types: &[&str]) {
        let names = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        self.parameters.extend(
            names
                .zip(types)
                .map(|(name, kind)| json!({"name": name, "in": "path", "required": true, "schema": {"type": kind}})),
        );
    }

    /// A header that may be sent.
    pub(super) fn header(&mut self, name: &str, description: &str) {
        let schema = json!({"type": "string"});
        self.parameters.push(json!({"name": name, "in": "header", "description": description, "schema": schema}));
    }

    /// The fields of this type stand behind the question mark.
    pub(super) fn query<T: JsonSchema>(&mut self) {
        let schema = T::json_schema(self.taken).to_value();
        let is_required = |name: &str| {
            schema["required"].as_array().is_some_and(|required| required.iter().any(|other| other == name))
        };
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            self.parameters.push(parameter(name, is_required(name), schema.clone()));
        }
    }

    /// The body is this type as JSON.
    pub(super) fn body<T: JsonSchema>(&mut self, is_required: bool) {
        let schema = self.taken.subschema_for::<T>();
        self.body = Some(json!({"required": is_required, "content": {"application/json": {"schema": schema}}}));
    }

    /// The answer is this type in this form.
    pub(super) fn answer<T: JsonSchema>(&mut self, form: &str) {
        let schema = self.given.subschema_for::<T>();
        self.answer = json!({"description": "It was done.", "content": {form: {"schema": schema}}});
    }

    fn document(self, address: &Address, problem: &Value) -> Value {
        let mut operation = json!({
            "operationId": address.name,
            "summary": address.summary,
            "tags": [address.tag()],
            "responses": {"200": self.answer, "default": problem},
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

fn parameter(name: &str, is_required: bool, mut schema: Value) -> Value {
    let mut take = |field: &str| schema.as_object_mut().and_then(|fields| fields.remove(field));
    let (description, is_json) = (take("description").unwrap_or_default(), take(JSON_TEXT).is_some());
    let mut parameter = json!({"name": name, "in": "query", "required": is_required, "description": description});
    match is_json {
        true => parameter["content"] = json!({"application/json": {"schema": schema}}),
        false => parameter["schema"] = schema,
    }
    parameter
}

/// What the addresses and their types tell.
struct Gathered {
    paths: Map<String, Value>,
    /// Schemas of what comes in, by name.
    taken: Map<String, Value>,
    /// Schemas of what goes out, by name.
    given: Map<String, Value>,
}

impl Gathered {
    fn gather() -> Self {
        let generator = |settings: SchemaSettings| {
            settings.with(|settings| settings.definitions_path = SCHEMAS.into()).into_generator()
        };
        let mut taken = generator(SchemaSettings::draft2020_12().for_deserialize());
        let mut given = generator(SchemaSettings::draft2020_12().for_serialize());
        let problem = json!({"application/problem+json": {"schema": given.subschema_for::<Problem>()}});
        let problem = json!({"description": "It was not done, and why.", "content": problem});
        let mut paths = Map::new();
        for address in routes::addresses() {
            let mut operation = Operation {
                path: address.path,
                taken: &mut taken,
                given: &mut given,
                parameters: Vec::new(),
                body: None,
                answer: Value::Null,
            };
            (address.describe)(&mut operation);
            let documented = operation.document(&address, &problem);
            let path = paths.entry(format!("/v1{}", address.path)).or_insert_with(|| json!({}));
            path[address.method.as_str().to_lowercase()] = documented;
        }
        Self { paths, taken: taken.take_definitions(true), given: given.take_definitions(true) }
    }

    /// All schemas. A type that goes both ways is told as it goes out; a test sees that it makes no difference.
    fn schemas(self) -> Map<String, Value> {
        let mut all = self.taken;
        all.extend(self.given);
        all
    }
}

/// The document of everything that is served.
pub fn document() -> Value {
    let gathered = Gathered::gather();
    let token = "What the file api.token in the data folder holds.";
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tidelock",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The local API of a running tidelock process. See docs/local-api.md.",
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "http://127.0.0.1:7373"}],
        "security": [{"token": []}],
        "paths": gathered.paths.clone(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": token}},
            "schemas": gathered.schemas(),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_every_reference_leads_somewhere() {
        let document = document();
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let names: Vec<_> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(names.len(), routes::addresses().len());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 40, "{found:?}");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_copy_that_the_client_is_made_from_is_the_same() {
        let copy: Value = serde_json::from_str(include_str!("../../web/packages/client/openapi.json")).unwrap();
        assert!(copy == document(), "make it anew: tidelock openapi > web/packages/client/openapi.json");
    }

    #[test]
    fn what_goes_both_ways_is_the_same_both_ways() {
        let Gathered { taken, given, .. } = Gathered::gather();
        let differing: Vec<_> =
            taken.iter().filter(|(name, schema)| given.get(*name).is_some_and(|other| other != *schema)).collect();
        assert!(differing.is_empty(), "{differing:#?}");
    }
}
