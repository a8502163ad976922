<?php
$db = new PDO(
    sprintf('mysql:host=%s;dbname=%s', getenv('MYSQL_HOST'), getenv('MYSQL_DATABASE')),
    getenv('MYSQL_USER'),
    getenv('MYSQL_PASSWORD'),
    [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION],
);
$db->exec('CREATE TABLE IF NOT EXISTS entries (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $db->prepare('INSERT INTO entries (text) VALUES (?)')->execute([$_POST['text']]);
}
foreach ($db->query('SELECT text FROM entries ORDER BY id') as $row) {
    echo '<p>', htmlspecialchars($row['text']), "</p>\n";
}
