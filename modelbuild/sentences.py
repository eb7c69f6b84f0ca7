"""Real sentences of many kinds: short and long, several languages, code, figures, typing errors. Torch-free.

Quantization looks for the ranges of activations on some of them, and accuracy is judged by the others.
"""

from __future__ import annotations

# What ranges are found on. None of these is among those that accuracy is judged by.
CALIBRATION = (
    "The shop on the corner sells everything except what you need.",
    "When does the pharmacy open on Sundays?",
    "The Danube passes through four capitals before it reaches the Black Sea.",
    "Lightning struck the oak twice in one summer, and still it came into leaf the next spring.",
    "Please find attached the signed agreement, with two small corrections on page nine.",
    "She won the race by a hundredth of a second.",
    "The parliament voted 312 to 298 in favour of the budget after a debate that lasted until four in the morning.",
    "Wir haben den Schlüssel unter den dritten Blumentopf gelegt, aber er ist weg.",
    "while True: try: connect() except TimeoutError: sleep(5)",
    (
        "A cold front will cross the country on Wednesday, bringing heavy rain to the west and gusts of up to 95 km/h "
        "on the coast."
    ),
    "My brother says he saw a fox in the underground car park.",
    "Aspirin thins the blood, so tell your dentist if you take it.",
    "does anyone know if the gym is open on easter monday??",
    "The company reported a loss of $42.7 million for the quarter, compared with a profit of $3.1 million a year ago.",
    "Dust, dust everywhere.",
    "Il a plu pendant tout le mariage, et personne ne s'en est plaint.",
    "Knead the dough for ten minutes, cover it with a damp towel, and leave it in a warm place until it has doubled.",
    "What is the boiling point of ethanol?",
    (
        "The tenant may sublet the flat only with the consent of the owner, which shall not be withheld without good "
        "reason."
    ),
    (
        "He remembered the smell of the classroom, chalk and wet wool and oranges, better than anything he had been "
        "taught there."
    ),
    "Jupiter has at least ninety-five moons.",
    "The goalkeeper dived the wrong way.",
    "Segmentation fault (core dumped)",
    "Nobody answered the phone, so I drove there myself, forty kilometres through the fog.",
    "Can I pay by card, or do you take cash only?",
    "The Ottoman fleet was defeated at Lepanto in 1571.",
    "Hola, quería saber si la habitación sigue disponible para septiembre.",
    (
        "A neural network with one hidden layer can approximate any continuous function, but nothing says how many "
        "neurons it takes."
    ),
    "The old man fed the pigeons every day at noon and called each of them by the name of a minister.",
    "Reply to this message with STOP if you no longer wish to hear from us.",
    "Blood pressure was 142/91 at admission and 128/84 on the third day after the dose had been doubled.",
    "I recieved the wrong colour, agian, and your hotline just hangs up.",
    (
        "The library of the monastery has eleven thousand volumes, among them a herbal of the ninth century with "
        "pictures of plants that do not exist."
    ),
    "Bread, milk, eggs, batteries.",
    "Why do cats purr?",
    "The judge asked the lawyer to come to the point.",
    (
        "An increase in the minimum wage does not always cost jobs, as studies of neighbouring counties have shown, "
        "though economists still argue about how far that result can be carried over to whole countries."
    ),
    "Meet me under the clock.",
    'The third movement is marked "as fast as possible", and a few bars later, "faster".',
    "Oggi il mare è calmo come uno specchio.",
    "curl -s https://example.org/api/v2/items?limit=10 | jq '.items[].id'",
    (
        "The volcano has been quiet since 1944, which worries the people who study it more than those who live on its "
        "slope."
    ),
    "Two tickets for the late show, please.",
    "Migrating birds find their way by the stars, by the Sun, and by the Earth's magnetic field.",
    "The ring was worth less than the box it came in.",
    "Have you tried turning it off and on again?",
    (
        "According to the police, the van had been parked in front of the bank for three days, its engine cold, its "
        "number plates stolen, and on the passenger seat a half-eaten sandwich and the plans of the building next "
        "door."
    ),
    "Copper turns green in the rain.",
    "The mayor promised a swimming pool before every election and a feasibility study after it.",
    "Mijn oma bakte elke zaterdag een appeltaart voor de hele straat.",
    "The new version fixes a memory leak in the parser and drops support for Python 3.8.",
    "So far, so good.",
    "A marathon is 42.195 kilometres long because of where the royal box stood in 1908.",
    (
        "The painting was sold for eleven million pounds, then shredded itself in front of the audience, and was sold "
        "again for more."
    ),
    "She asked whether the milk was fresh, and the waiter said that it had been.",
    "Diabetes, smoking and high blood pressure are the main risk factors for stroke.",
    "Which platform does the night train leave from?",
    "The snow had covered the tracks by the time the dogs arrived.",
    "We regret to inform you that your application was not successful on this occasion.",
    "Les pommes de terre sont arrivées en Europe au seizième siècle.",
    "The central bank bought bonds worth 80 billion a month and then could not agree on how to stop.",
    'if err != nil { return fmt.Errorf("open %s: %w", path, err) }',
    "A whale's song can be heard hundreds of kilometres away.",
    "omg the ending!! i did NOT see that coming",
    "Measure twice, cut once.",
    "The bridge was closed to lorries over 7.5 tonnes after cracks were found in one of its piers.",
    (
        "In my day, said the professor, we carried the computer to the problem, a punched card at a time, and were "
        "glad if it had an answer by Friday."
    ),
    "Der Arzt hat gesagt, dass ich mindestens eine Woche im Bett bleiben soll.",
    "Is it cheaper to repair the dishwasher or to buy a new one?",
    "Hamlet delays for four acts.",
    "The orchard has been in the family for six generations and grows kinds of pears that are found in no shop.",
    "Oxygen makes up about 21 percent of the atmosphere.",
    "The defender limped off in the 38th minute with what looked like a torn muscle.",
    "Payment is due upon receipt.",
    (
        "There are more possible games of chess than atoms in the visible universe, yet most of the games that people "
        "play begin in one of about twenty ways."
    ),
    "Quantas horas de diferença há entre Lisboa e São Paulo?",
    "The neighbours complained about the piano, then about the silence.",
    "Bees can see ultraviolet light, which people cannot.",
    "The delegation left Geneva without a result, and neither side would say when the talks are to go on.",
    "Store in a cool, dry place and use within three days of opening.",
    "He had the habit of finishing other people's sentences, usually wrongly.",
    "A bill of exchange is an order in writing by one person to another to pay a certain sum to a third.",
    "What time is it in Tokyo when it's noon in Toronto?",
    "Rent is up nine percent, wages two.",
    "The spider repairs her web each evening and eats what is left of the old one.",
    "Jag har glömt mitt paraply på bussen, det är svart med ett trähandtag.",
    (
        "After thirty years at sea the captain bought a farm as far from the coast as he could, and found on the "
        "first night that he could not sleep without the noise."
    ),
    "The sum of the angles on a sphere is more than 180 degrees.",
    "ERROR 1045 (28000): Access denied for user 'root'@'localhost' (using password: YES)",
    "Our guide spoke five languages and was rude in all of them.",
    "The trial included 1,208 volunteers aged 18 to 65, half of whom were given a placebo.",
    "Come in, sit down, mind the step.",
    "Dogs were buried with people fourteen thousand years ago.",
    "The screenplay was rewritten nine times by six people, and none of them would have their name on it.",
    "Ten years from now nobody will remember who spoke first.",
    "How many people does it take to start a choir?",
    "Le musée ferme dans un quart d'heure.",
    "The satellite measures the height of the sea to within two centimetres from 1,300 kilometres above.",
    (
        "The recipe, handed down from an aunt who had cooked for a bishop, asks for a pound of butter, a dozen eggs, "
        "a glass of the good brandy for the cake and another for the cook."
    ),
    "That will be all, thank you.",
)

# What the accuracy of a package whose precision is reduced is judged by.
EVALUATION = (
    "The bus was late again.",
    "Could you send me the minutes of Tuesday's meeting before noon?",
    "Water boils at a lower temperature on a mountain because the air presses on it less.",
    "I have never liked olives, and I doubt that I ever will.",
    (
        '"We did not lose the match in the last five minutes," the coach said, "we lost it in the first twenty, when '
        'nobody wanted the ball."'
    ),
    "The invoice of 14 March 2023 comes to €1,284.50, payable within thirty days.",
    "Who wrote the music for the film?",
    (
        "After the flood of 1953 the Dutch government decided to close off the estuaries in the south-west, a work of "
        "four decades that ended with a barrier whose gates are let down only when a storm is expected."
    ),
    "def area(radius): return 3.14159 * radius ** 2",
    "Der Zug nach Leipzig fährt heute von Gleis 7 ab.",
    "Teh package arived yesterday but the box was completly crushed.",
    "A red-black tree keeps its height logarithmic by recolouring and rotating nodes after each insertion.",
    "My grandmother kept bees behind the church until she was ninety-one.",
    "What is the difference between a lawyer and a barrister in Ireland?",
    "Please restart the router, wait thirty seconds, and try again.",
    (
        "The patient, a 67-year-old man with type 2 diabetes, presented with chest pain radiating to the left arm and "
        "shortness of breath on exertion."
    ),
    "Shares of the airline fell 6.2% on Thursday after it cut its forecast for the winter.",
    "Not on Sundays.",
    "It rained all night, and by morning the path along the river had disappeared.",
    "Elle n'avait pas dormi depuis deux jours, mais elle refusait de s'arrêter.",
    "Photosynthesis turns carbon dioxide and water into sugar and oxygen.",
    (
        "If the defendant fails to appear, the court may give judgment in his absence, provided that he was served "
        "with notice at least fourteen days before the hearing."
    ),
    "lol that was the worst pizza i've ever had, never going there again",
    "SELECT name, COUNT(*) FROM orders WHERE placed > '2024-01-01' GROUP BY name HAVING COUNT(*) > 3;",
    "The cat has been asleep on the radiator since breakfast.",
    "How long does it take to fly from Nairobi to Mumbai?",
    (
        "Marie Curie shared the prize of 1903 with her husband and Henri Becquerel, and won a second one, in "
        "chemistry, eight years later."
    ),
    "Add the flour a little at a time, stirring until the dough no longer sticks to the bowl.",
    "El mercado abre a las ocho y cierra cuando se acaba el pescado.",
    "I was told the job would take two hours; it took eleven.",
    "The committee rejected the proposal by nine votes to four.",
    "Antibiotics do nothing against a virus, although many patients expect to be given them for a cold.",
    "There are 4,217 steps to the top, or so the guide claims.",
    "Would you rather be early and bored or late and embarrassed?",
    (
        "The court held that a landlord who keeps a deposit without giving reasons in writing must return it in full, "
        "whatever the state of the flat."
    ),
    "Glaciers move, but slowly.",
    "A mutex that is locked twice by the same thread will deadlock unless it is recursive.",
    "We walked past the bakery, the closed cinema, and the house where Anna used to live, without saying a word.",
    "The 2019 vintage is lighter than the one before, with notes of cherry and wet stone.",
    "Fatal error: index 12 is out of range for an array of length 12.",
    "Her first novel sold three hundred copies; her second was translated into forty languages.",
    "Is there a vegetarian option, and can it be made without nuts?",
    "Das Fenster im dritten Stock stand offen, obwohl seit Jahren niemand mehr dort wohnte.",
    (
        "The tide goes out so far here that you can walk to the island, but you have about three hours before the sea "
        "comes back and cuts off the way."
    ),
    "Unemployment fell for the sixth month in a row.",
    "My password doesn't work anymore and the reset mail never arrives, I checked spam too.",
    "In 1969, two people walked on the Moon while a third waited in orbit.",
    "A recipe is a suggestion; a chemical protocol is not.",
    "Everyone at the table laughed except Tom, who had not understood the joke and was ashamed to ask.",
    "The enzyme is inactive below pH 5.5 and denatures above 70 °C.",
    (
        "Turn left at the chapel, go on for about two miles, and you will see a white gate with no number on it; "
        "that's us."
    ),
    "Ho perso il telefono sul treno delle sei e mezza.",
    (
        "Interest rates will stay where they are until inflation has been below two percent for at least two "
        "quarters, the governor told reporters on Friday."
    ),
    "This is not a drill.",
    "Can a dog be trained to find truffles, or is that only for pigs?",
    (
        "Our warranty covers defects in material and workmanship, but not damage by water, lightning, or repairs that "
        "were not made by us."
    ),
    "The choir sang without an organ because the bellows had been eaten by mice.",
    "for (let i = 0; i < items.length; i++) { total += items[i].price; }",
    "He paid in coins.",
    (
        "The longest river in France is the Loire, which rises in the Massif Central and reaches the Atlantic at "
        "Saint-Nazaire."
    ),
    (
        "Vaccination rates in the district rose from 61 to 88 percent within a year, mainly because nurses went from "
        "door to door."
    ),
    "i dont know who needs to hear this but drink some water and go to bed",
    (
        "Some economists believe that a small tax on empty flats would bring thousands of them back to the market; "
        "others think that owners would simply invent tenants."
    ),
    "Snow is forecast above 800 metres.",
    "The old bridge was taken down stone by stone, numbered, and put up again in a park in Arizona.",
    "What happened to the money?",
    "A transformer reads all tokens at once and learns which of them matter to each other.",
    (
        "The actor, who is better known for comedies, plays a retired judge with almost no words and one astonishing "
        "scene in the rain."
    ),
    "Não sei se vamos conseguir chegar antes da meia-noite.",
    "Boil the potatoes in their skins, peel them while they are hot, and never, ever use a blender.",
    "The suspect was last seen near Platform 3 wearing a green coat.",
    "Sixty-four kilobytes ought to be enough for a game about a frog.",
    "When the referee looked at the screen for the fourth time, half of the stadium had already gone home.",
    "The meeting has been moved to room B.204, third floor, at 3:15 pm.",
    "She speaks Finnish with her mother, Arabic with her father, and English with the dog.",
    "A black hole of the mass of the Sun would be about six kilometres across.",
    "Do not operate heavy machinery while you take this medicine.",
    (
        "The novel opens with a funeral and ends with a wedding, and in the two hundred pages between them hardly "
        "anything happens, which is exactly what makes it so hard to put down."
    ),
    "It's fine, really.",
    (
        "Lors du dernier recensement, le village comptait 312 habitants, dont plus de la moitié avaient plus de "
        "soixante ans."
    ),
    "The engine makes a knocking sound when it's cold, but only in second gear.",
    "Where did the Vikings land first in North America?",
    "git rebase --onto main feature~3 feature",
    "According to the label, one serving has 212 calories and nine grams of protein.",
    (
        "The witness could not say whether the light had been red or amber, since the sun was low and, as she put it, "
        '"everything was gold."'
    ),
    "Penguins do not fly.",
    (
        "We apologise for the delay to the 17:42 service to Cardiff Central, which is due to a fault in the "
        "signalling near Swindon."
    ),
    "A well-made knife should balance on one finger just in front of the handle.",
    (
        "The company was founded in a garage by two sisters who had been told by four banks that nobody would ever "
        "pay for a map on a telephone."
    ),
    "Hvor mye koster en billett til Bergen?",
    "The p-value alone says little about how large an effect is.",
    "Mozart wrote the overture in one night, it is said, with his wife telling him stories to keep him awake.",
    "are you still selling the blue bike? i could come by on saturday",
    (
        "To remove the filter, turn it counter-clockwise, hold it upright so that no oil is spilled, and wipe the "
        "ring with a dry cloth before you put in the new one."
    ),
    "Half of the lake is in another country.",
    "The senator denied having met the lobbyist, although a photograph shows them at the same table.",
    "Why is the sky dark at night if there are stars in every direction?",
    "The temperature in the greenhouse must not fall below 12 degrees, or the lemons will drop their leaves.",
    (
        "The train stopped in the middle of nowhere, the lights went out, and a voice said, in three languages, that "
        "there was no reason for concern."
    ),
    "Thank you for your patience.",
    "Bitcoin fell below $30,000 for the first time since July.",
    "An apple a day keeps the doctor away, says the proverb; a doctor I know says it keeps the dentist in business.",
    "Chaque matin, le boulanger dépose un pain devant la porte du vieux professeur.",
    "The treaty was signed on 24 October 1648 in Münster and Osnabrück.",
    "Your order #58213-B has been shipped and should reach you between Monday and Wednesday.",
    "In the southern hemisphere the Moon appears upside down to visitors from the north.",
    (
        "Nobody knows who built the stone circle, or why it was left unfinished, but on the shortest day of the year "
        "the sun sets exactly between the two tallest stones."
    ),
    "He is allergic to penicillin.",
    "The striker scored twice in injury time.",
    '{"status": "error", "code": 503, "message": "upstream timed out"}',
    "Most of the plastic in the ocean comes from fishing nets, not from straws.",
    "I'd like to return these shoes; they are a size too small.",
    (
        "Quantum computers will not replace ordinary ones, since they are good at a few kinds of problems and "
        "hopeless at most others."
    ),
    "Die Mehrwertsteuer beträgt neunzehn Prozent, für Bücher und Lebensmittel jedoch nur sieben.",
    (
        "She closed the door softly, put down her bag, listened for a while to the silence of the house, and then "
        "began, methodically, to open every drawer."
    ),
    "Which of these mushrooms is poisonous?",
    "The minister resigned over the contract for masks, which had gone to her brother-in-law's firm without a tender.",
    "Kidney stones are said to hurt more than childbirth.",
    "A triangle with sides 3, 4 and 5 has a right angle.",
    "The museum is closed on Mondays, except when Monday is a public holiday, in which case it is closed on Tuesday.",
    "Best purchase I've made this year, the battery lasts for ever and it fits in my pocket!!",
    "Before you sign anything, read the part in small print about what happens if you want to leave.",
    "Two minutes of silence were observed across the country.",
    "The soil here is heavy clay, so dig in plenty of grit and compost before you plant lavender.",
    "Waar kan ik mijn fiets neerzetten?",
    (
        "Every hour, the lighthouse keeper wrote down the wind, the waves, and the ships that passed, and when the "
        "lamp became automatic he went on doing so for eleven years, although nobody had asked him to."
    ),
    "The function returns None if the key is missing, and raises ValueError if it is empty.",
    "Our flight was diverted to Gander.",
    "The bank raised its estimate of growth to 1.4 percent.",
    "It took the jury less than an hour to acquit both brothers.",
    'Could somebody explain to me, slowly and without using the word "blockchain", what this company actually does?',
    "Скрипку забыли в такси у вокзала.",
    "Coral reefs cover less than one percent of the sea floor and shelter about a quarter of all marine species.",
    "A year on Venus is shorter than a day there.",
    "Le médecin m'a conseillé de marcher une demi-heure par jour.",
    (
        "There was a time when you could leave your bicycle unlocked in front of the library, he said, but then there "
        "was also a time when the library had books."
    ),
    "The vaccine must be stored at minus seventy degrees.",
    (
        "Section 4.2 shall not apply to contracts that were concluded before the date on which this regulation enters "
        "into force."
    ),
    "my phone fell in the toilet and now siri only speaks japanese, help",
    "The recipe calls for six eggs, but five will do.",
    "Under the microscope, the salt looked like a ruined city.",
    "Warsaw was rebuilt from paintings.",
    "If you multiply two negative numbers, why is the result positive?",
    (
        "The hikers were found alive after three nights in a snow cave, with frostbite and a great many opinions "
        "about the weather service."
    ),
    "The keyboard has a layout nobody else can use, which is the point.",
    "Él me dijo que volvería en otoño, pero nunca mencionó el año.",
    "Sales of electric cars overtook those of diesel in August.",
    "When iron rusts it gains weight, since it binds oxygen from the air.",
    "Keep out of reach of children.",
    "A good translator, Borges suggested, may be more faithful than the original.",
    (
        "The dam holds back 1.2 billion cubic metres of water and supplies three cities, yet last summer its level "
        "fell so low that the bell tower of a drowned village could be seen."
    ),
    "Did you lock the car?",
    "x = np.linspace(-1, 1, 200); plt.plot(x, np.tanh(4 * x))",
    "Mr. Okafor, the new headmaster, knows every pupil by name.",
    (
        "The strike at the port of Rotterdam has entered its second week, and the first factories in the Ruhr are "
        "running out of ore."
    ),
    "Octopuses have three hearts and blue blood.",
    (
        "The last page of the diary had been torn out, and what was left of the ink on the page before suggested a "
        "name that began with R."
    ),
    "Restaurant très bruyant, service lent, mais le dessert valait l'attente.",
    (
        "On average, a person in the region earns half of what a person in the capital does and pays two thirds of "
        "the rent."
    ),
    "We'll see, then.",
    "The committee for standards recommends at least one metre of free space in front of every fire door.",
    "Beethoven was already deaf when the symphony was first performed.",
    "What should I feed a hedgehog that I found in the garden in November?",
    (
        "The new tram will connect the hospital with the university by 2027, two years later than planned and at "
        "twice the cost."
    ),
    "To be, or not to be: that is the question.",
    "Hereby I confirm my cancellation of the contract with the number 7731-904 at the earliest possible date.",
    "The left-back was sent off for a second yellow card.",
    "It is a truth universally acknowledged that the printer breaks down on the day of the deadline.",
    "Cholesterol is carried in the blood by proteins of low and high density.",
    "Kannst du mir bitte das Salz reichen?",
    (
        "Wolves returned to the valley in the winter of 2011, first one, then a pair, and since then the farmers have "
        "talked about little else."
    ),
    "The radio played softly in the next room.",
    "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
    "How do I get a wine stain out of a white tablecloth?",
    (
        "An estimated two thousand people gathered in front of the parliament to protest against the new law on "
        "surveillance, among them several members of the governing party."
    ),
    "Silver conducts electricity better than copper.",
    "The parcel was returned to sender because nobody in the building answered to the name of Dr. Fitzgerald-Moreau.",
    "Her handwriting was so small that the editor needed a lens.",
    "The earthquake lasted eleven seconds.",
    "Vi ses i morgon klokka nio utanför biblioteket.",
    (
        "Insulin lets cells take up sugar from the blood, and when there is not enough of it, or when the cells no "
        "longer respond to it, the sugar stays where it is and does its damage slowly."
    ),
    "I think therefore I am, I'm pretty sure.",
    "Η συναυλία ξεπούλησε σε τέσσερα λεπτά.",
    "Please note that the lift is out of order; use the stairs at the back.",
    "She had read everything about sailing and had never been on a boat.",
    "The factory in Győr makes engines for cars that are put together in five countries.",
    "Does a heavier object fall faster than a light one in a vacuum?",
    "The referendum failed, since only 38 percent of those entitled to vote took part and the law asks for half.",
    "Onions make you cry because cutting them frees a gas that turns into acid in the eye.",
    (
        "On the morning of the exam she found that she could remember the capital of every country in Africa, the "
        "dates of all the popes since 1800, and the whole of the periodic table as far as zinc, but not the name of "
        "the street in which the school was."
    ),
    (
        "If you had asked me at the time, as we sat on the steps of the post office with wet shoes and the last bus "
        "gone, whether I would ever look back on that holiday with anything but horror, I would have laughed, and yet "
        "here I am, thirty years later, telling it as the best story I know."
    ),
    "The refund will appear on your statement within five to seven working days.",
    (
        "Astronomers have found a planet of the size of Neptune where, by every theory of how planets form, there "
        "should be none."
    ),
    "I'm not angry, just disappointed, which is worse.",
    (
        "Gold was discovered at Sutter's Mill on 24 January 1848, and within a year San Francisco had emptied into "
        "the hills."
    ),
    "Quel est le meilleur moyen d'apprendre une langue à soixante-dix ans ?",
    "Rinse the rice until the water runs clear.",
    "The algorithm sorts the edges by weight and adds each one that closes no cycle.",
    "Ewa nie przyszła na próbę, bo zepsuł jej się samochód.",
    "Please do not feed the ducks, they are on a diet.",
)
