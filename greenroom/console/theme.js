// No module: it is executed before anything is painted, so that a chosen theme does not flash.
const chosenTheme = localStorage.getItem("greenroom.theme");
if (chosenTheme && chosenTheme !== "auto") document.documentElement.dataset.theme = chosenTheme;
