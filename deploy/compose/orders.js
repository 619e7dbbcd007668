// A customer of MongoDB: a user who owns one database, and some orders in it.
const fs = require("fs");
const orders = db.getSiblingDB("orders");
orders.createUser({
  user: "orders",
  pwd: fs.readFileSync("/run/secrets/orders", "utf8").trim(),
  roles: [{ role: "dbOwner", db: "orders" }],
});
orders.orders.insertMany(Array.from({ length: 1000 }, (_, n) => ({ _id: n, state: n % 3, cents: n })));
orders.orders.createIndex({ state: 1 });
