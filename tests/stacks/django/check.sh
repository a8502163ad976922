. ../lib.sh
until_expected '"tick":' fetch /
if [ -z "${AGAIN-}" ]; then
    expect '"asked": true' fetch /ask --data kind=visit
fi
until_expected '"visit": 1' fetch /
